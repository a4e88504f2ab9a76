//! One match of an HTTP rule, and why it does not hold for a request.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};

use super::labels::Labels;
use super::path::Path;
use super::proto;
use super::text::Text;
use super::within::Within;

/// The pod that sends.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    pub namespace: &'a str,
    pub labels: &'a Labels,
}

/// A request's head, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a Method,
    pub scheme: &'a str,
    pub authority: &'a str,
    /// Normalised, without the query.
    pub path: &'a str,
    /// What follows the `?`; None: there is none.
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// The service's port.
    pub port: u16,
}

impl<'a> Request<'a> {
    /// The first value of a query's parameter, as it is written in the URL; empty for a name alone.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        let pairs = self.query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The path with the query.
    pub fn target(&self) -> Cow<'a, str> {
        match self.query {
            Some(query) => format!("{}?{query}", self.path).into(),
            None => self.path.into(),
        }
    }
}

/// All of its conditions must hold.
#[derive(Debug)]
pub struct HttpMatch {
    /// The name of a request's route that matches: "rule", "rule.match".
    pub route: Arc<str>,
    /// Cheap ones first.
    pub conditions: Box<[Condition]>,
}

/// One condition on a request or its client.
#[derive(Debug)]
pub enum Condition {
    Path(Path),
    Method(Text),
    Port(u16),
    Scheme(Text),
    Authority(Text),
    Header(Field, Text),
    /// It must not match; a header that is missing is taken as empty, unless its presence is asked for.
    WithoutHeader(Field, Text),
    Query(Box<str>, Text),
    SourceNamespace(Box<str>),
    SourceLabel(Box<str>, Box<str>),
}

/// A header, or a pseudo-header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    Header(HeaderName),
    Method,
    Scheme,
    Authority,
    Path,
}

impl HttpMatch {
    pub fn decode(sent: &proto::HttpMatch, rule: &str) -> Result<HttpMatch, String> {
        let text = |sent: &Option<proto::StringMatch>| sent.as_ref().map(Text::decode).transpose();
        let fields = |sent: &[proto::NamedMatch]| {
            let field = |sent: &proto::NamedMatch| Ok((Field::decode(&sent.name)?, value(sent)?));
            sent.iter().map(field).collect::<Result<Vec<_>, String>>()
        };
        let query = |sent: &proto::NamedMatch| Ok(Condition::Query(sent.name.as_str().into(), value(sent)?));
        let headers = fields(&sent.headers).within("headers")?.into_iter();
        let without = fields(&sent.without_headers).within("without_headers")?.into_iter();
        let mut conditions = vec![];
        conditions.extend(sent.path.as_ref().map(Path::decode).transpose().within("path")?.map(Condition::Path));
        conditions.extend(text(&sent.method).within("method")?.map(Condition::Method));
        conditions.extend(port(sent.port)?.map(Condition::Port));
        conditions.extend(text(&sent.scheme).within("scheme")?.map(Condition::Scheme));
        conditions.extend(text(&sent.authority).within("authority")?.map(Condition::Authority));
        conditions.extend(headers.map(|(name, value)| Condition::Header(name, value)));
        conditions.extend(without.map(|(name, value)| Condition::WithoutHeader(name, value)));
        conditions.extend(sent.query.iter().map(query).collect::<Result<Vec<_>, String>>().within("query")?);
        conditions.extend(clients(&sent.source_namespace, &sent.source_labels));
        let route = if sent.name.is_empty() { rule.into() } else { format!("{rule}.{}", sent.name).into() };
        Ok(HttpMatch { route, conditions: conditions.into() })
    }

    /// The first condition that does not hold.
    pub fn unmet(&self, client: &Client<'_>, request: &Request<'_>) -> Option<&Condition> {
        self.conditions.iter().find(|condition| !condition.holds(client, request))
    }

    pub fn path(&self) -> Option<&Path> {
        self.conditions.iter().find_map(|condition| match condition {
            Condition::Path(path) => Some(path),
            _ => None,
        })
    }
}

fn clients<'a>(namespace: &'a str, labels: &'a HashMap<String, String>) -> impl Iterator<Item = Condition> + 'a {
    let namespace = (!namespace.is_empty()).then(|| Condition::SourceNamespace(namespace.into()));
    let label = |(key, value): (&String, &String)| Condition::SourceLabel(key.as_str().into(), value.as_str().into());
    namespace.into_iter().chain(labels.iter().map(label))
}

impl Condition {
    pub fn holds(&self, client: &Client<'_>, request: &Request<'_>) -> bool {
        let matches = |text: &Text, value: &str| text.matches(value.as_bytes());
        match self {
            Condition::Path(path) => path.matches(request.path),
            Condition::Method(text) => matches(text, request.method.as_str()),
            Condition::Port(port) => *port == request.port,
            Condition::Scheme(text) => matches(text, request.scheme),
            Condition::Authority(text) => matches(text, request.authority),
            Condition::Header(name, text) => name.any(request, text),
            Condition::WithoutHeader(name, text) if text.is_presence() => !name.any(request, text),
            Condition::WithoutHeader(name, text) => {
                !name.any(request, text) && (name.is_in(request) || !text.matches(b""))
            }
            Condition::Query(name, text) => request.parameter(name).is_some_and(|value| matches(text, value)),
            Condition::SourceNamespace(namespace) => **namespace == *client.namespace,
            Condition::SourceLabel(key, value) => client.labels.get(key) == Some(value),
        }
    }

    /// Why it does not hold for a request.
    pub fn mismatch(&self, request: &Request<'_>) -> String {
        let (subject, wanted) = self.words();
        match self {
            Condition::Header(name, _) if !name.is_in(request) => format!("{subject} is missing"),
            Condition::Query(name, _) if request.parameter(name).is_none() => format!("{subject} is missing"),
            Condition::WithoutHeader(..) => format!("{subject} is {wanted}, which withoutHeaders excludes"),
            _ => format!("{subject} is not {wanted}"),
        }
    }

    /// Of what it is a condition, and what that has to be.
    fn words(&self) -> (String, String) {
        match self {
            Condition::Path(path) => ("path".to_owned(), path.to_string()),
            Condition::Method(text) => ("method".to_owned(), text.to_string()),
            Condition::Port(port) => ("port".to_owned(), port.to_string()),
            Condition::Scheme(text) => ("scheme".to_owned(), text.to_string()),
            Condition::Authority(text) => ("authority".to_owned(), text.to_string()),
            Condition::Header(name, text) | Condition::WithoutHeader(name, text) => {
                (format!("header {name}"), text.to_string())
            }
            Condition::Query(name, text) => (format!("query parameter {name}"), text.to_string()),
            Condition::SourceNamespace(namespace) => ("source namespace".to_owned(), format!("'{namespace}'")),
            Condition::SourceLabel(key, value) => (format!("source label {key}"), format!("'{value}'")),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, wanted) = self.words();
        let negated = if matches!(self, Condition::WithoutHeader(..)) { "not " } else { "" };
        write!(to, "{subject} is {negated}{wanted}")
    }
}

impl Field {
    pub fn decode(name: &str) -> Result<Field, String> {
        Ok(match name {
            ":method" => Field::Method,
            ":scheme" => Field::Scheme,
            ":authority" => Field::Authority,
            ":path" => Field::Path,
            name => match HeaderName::try_from(name).map_err(|_| format!("'{name}' is no name of a header"))? {
                // HTTP/1.1 names it so; the codec hands on the authority only.
                name if name == http::header::HOST => Field::Authority,
                name => Field::Header(name),
            },
        })
    }

    pub fn is_in(&self, request: &Request<'_>) -> bool {
        !matches!(self, Field::Header(name) if !request.headers.contains_key(name))
    }

    /// Whether any of its values matches: each is looked at for itself, as in Envoy, so that a second one hides nothing.
    pub fn any(&self, request: &Request<'_>, text: &Text) -> bool {
        match self {
            Field::Header(name) => request.headers.get_all(name).iter().any(|value| text.matches(value.as_bytes())),
            _ => self.of(request).is_some_and(|value| text.matches(&value)),
        }
    }

    /// Its value; several are joined by commas, as Envoy does.
    pub fn of<'a>(&self, request: &Request<'a>) -> Option<Cow<'a, [u8]>> {
        match self {
            Field::Header(name) => joined(request.headers, name),
            Field::Method => Some(request.method.as_str().as_bytes().into()),
            Field::Scheme => Some(request.scheme.as_bytes().into()),
            Field::Authority => Some(request.authority.as_bytes().into()),
            Field::Path => Some(match request.target() {
                Cow::Borrowed(target) => target.as_bytes().into(),
                Cow::Owned(target) => target.into_bytes().into(),
            }),
        }
    }
}

pub(super) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let mut joined = Cow::from(values.next()?.as_bytes());
    for value in values {
        let joined = joined.to_mut();
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    Some(joined)
}

fn value(sent: &proto::NamedMatch) -> Result<Text, String> {
    sent.value.as_ref().ok_or_else(|| "no value".to_owned()).and_then(Text::decode).within(&sent.name)
}

/// 0 is none.
pub(super) fn port(sent: u32) -> Result<Option<u16>, String> {
    let port = u16::try_from(sent).map_err(|_| format!("port {sent} is out of range"))?;
    Ok((port != 0).then_some(port))
}

impl fmt::Display for Field {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Field::Header(name) => name.as_str(),
            Field::Method => ":method",
            Field::Scheme => ":scheme",
            Field::Authority => ":authority",
            Field::Path => ":path",
        })
    }
}
