//! Which spans are made of requests and connections, and who gets them.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use super::proto::{self, ProviderKind};

/// Of a collector's answer, where a provider has none of its own; as Envoy.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of an attribute that a client chooses, likewise.
const MAX_TAG_LENGTH: usize = 256;

/// A collector that speaks OpenTelemetry's protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Provider {
    pub name: Arc<str>,
    /// A host name, or `namespace/host name`.
    pub service: Arc<str>,
    pub port: u16,
    /// Of requests over HTTP/1.1, empty for the usual one; None: over gRPC.
    pub http_path: Option<Arc<str>>,
    /// That go with each request.
    pub headers: Vec<(String, String)>,
    pub timeout: Duration,
    pub log_name: Arc<str>,
}

/// The spans of one side.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// None: nobody gets them, but traces are followed all the same.
    pub provider: Option<Arc<Provider>>,
    /// Of traces that begin here, in hundredths of a percent: Istio's percentages have two digits behind the point.
    pub sampling: u32,
    pub tags: Vec<Tag>,
    /// Whether spans have `istio.*` attributes.
    pub istio_tags: bool,
    /// Whether requests go on with our own span in their header.
    pub propagates: bool,
    /// Characters of an attribute that a client chooses.
    pub max_tag_length: usize,
}

/// An attribute that users ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub name: Arc<str>,
    pub value: TagValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagValue {
    Literal(Arc<str>),
    /// Of the request; with what stands for it where there is none (empty: then there is no attribute).
    Header(Arc<str>, Arc<str>),
}

impl Provider {
    /// `host:port`, as it is written.
    pub fn address(&self) -> String {
        format!("{}:{}", self.service.rsplit('/').next().unwrap_or_default(), self.port)
    }

    /// None: it speaks something else.
    pub fn decode(message: &proto::Provider) -> Option<Provider> {
        let mut headers: Vec<_> = message.headers.clone().into_iter().collect();
        headers.sort();
        (message.kind() == ProviderKind::Opentelemetry).then(|| Provider {
            name: message.name.as_str().into(),
            service: message.service.as_str().into(),
            port: u16::try_from(message.port).unwrap_or_default(),
            http_path: message.http.then(|| message.http_path.as_str().into()),
            headers,
            timeout: match message.timeout {
                0 => TIMEOUT,
                milliseconds => Duration::from_millis(milliseconds.into()),
            },
            log_name: message.log_name.as_str().into(),
        })
    }
}

impl Tracing {
    pub fn decode(message: &proto::Tracing) -> Tracing {
        let first = message.providers.first();
        let provider = first.and_then(Provider::decode).filter(|_| !message.disable_span_reporting);
        let mut tags: Vec<Tag> = message.custom_tags.iter().filter_map(|(name, tag)| Tag::decode(name, tag)).collect();
        tags.sort_by(|one, other| one.name.cmp(&other.name));
        Tracing {
            provider: provider.map(Arc::new),
            sampling: (message.sampling.clamp(0.0, 100.0) * 100.0).round() as u32,
            tags,
            istio_tags: message.enable_istio_tags,
            propagates: !message.disable_context_propagation,
            max_tag_length: match first.map_or(0, |provider| provider.max_tag_length) {
                0 => MAX_TAG_LENGTH,
                most => most as usize,
            },
        }
    }

    /// A text as long as it may be.
    pub fn cut<'a>(&self, text: &'a str) -> &'a str {
        let end = text.char_indices().nth(self.max_tag_length).map_or(text.len(), |(end, _)| end);
        &text[..end]
    }
}

impl Tag {
    /// A variable of this process has one value. None: it has none, and nothing stands for it.
    fn decode(name: &str, message: &proto::CustomTag) -> Option<Tag> {
        let proto::CustomTag { literal, environment, header, default_value } = message;
        let value = match (environment.as_str(), header.as_str()) {
            ("", "") => TagValue::Literal(literal.as_str().into()),
            ("", header) => TagValue::Header(header.into(), default_value.as_str().into()),
            (variable, _) => TagValue::Literal(env::var(variable).unwrap_or_else(|_| default_value.clone()).into()),
        };
        let is_empty = value == TagValue::Literal("".into());
        (!is_empty).then(|| Tag { name: name.into(), value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_is_as_in_istio() {
        let collector = proto::Provider { kind: ProviderKind::Opentelemetry as i32, port: 4317, ..Default::default() };
        let tag = |literal: &str, environment: &str| proto::CustomTag {
            literal: literal.into(),
            environment: environment.into(),
            ..Default::default()
        };
        let message = proto::Tracing {
            providers: vec![collector],
            sampling: 12.345,
            custom_tags: [("b", tag("shop", "")), ("a", tag("", "PATH")), ("c", tag("", "NO_SUCH_VARIABLE"))]
                .map(|(name, tag)| (name.to_owned(), tag))
                .into(),
            ..Default::default()
        };
        let read = Tracing::decode(&message);
        let provider = read.provider.unwrap();
        assert_eq!((provider.timeout, provider.http_path.as_deref()), (TIMEOUT, None));
        assert_eq!((read.sampling, read.max_tag_length, read.propagates), (1235, MAX_TAG_LENGTH, true));
        let tags: Vec<_> = read.tags.iter().map(|tag| (&*tag.name, &tag.value)).collect();
        let path = TagValue::Literal(env::var("PATH").unwrap().into());
        assert_eq!(tags, [("a", &path), ("b", &TagValue::Literal("shop".into()))]);
        let silent = proto::Tracing { disable_span_reporting: true, ..message };
        assert_eq!(Tracing::decode(&silent).provider, None);
    }
}
