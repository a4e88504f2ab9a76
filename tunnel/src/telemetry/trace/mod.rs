//! Traces: which requests and connections become spans, and where these belong.
mod context;

use crate::base::Rng;
use crate::observability::{Provider, Tag, TagValue, Tracing};
pub use context::Context;
use context::Incoming;
use http::HeaderMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Parts of a whole, of which Istio's percentages have two digits behind the point.
const WHOLE: u64 = 10_000;

/// A span under way, of a request or of a connection.
#[derive(Clone, Debug)]
pub struct Trace {
    pub context: Context,
    /// The caller's span, in the same trace; 0: it is the first.
    pub parent: u64,
    pub settings: Arc<Tracing>,
    /// From the request's header. Without a span, empty.
    pub attributes: Vec<(Arc<str>, Box<str>)>,
    pub tries: Vec<Try>,
}

/// A try to send a request upstream.
#[derive(Clone, Debug)]
pub struct Try {
    /// Since the request came.
    pub at: Duration,
    pub endpoint: SocketAddr,
    /// Its status, or why there was none.
    pub outcome: Box<str>,
}

impl Trace {
    /// Of a request: joins its trace, or begins one; the header says so from then on.
    pub fn of_request(settings: &Arc<Tracing>, headers: &mut HeaderMap, rng: &mut Rng) -> Box<Trace> {
        let incoming = Incoming::read(headers);
        let mut trace = Trace::begin(settings, incoming.parent, incoming.sampled, rng);
        if trace.is_sampled() {
            trace.attributes = attributes(settings, headers);
        }
        if settings.propagates {
            incoming.write(headers, &trace.context);
        }
        trace
    }

    /// Of a connection, whose caller may have said of what trace it is.
    pub fn of_connection(settings: &Arc<Tracing>, parent: Option<Context>, rng: &mut Rng) -> Box<Trace> {
        let mut trace = Trace::begin(settings, parent, parent.map(|parent| parent.sampled), rng);
        if trace.is_sampled() {
            trace.attributes = attributes(settings, &HeaderMap::new());
        }
        trace
    }

    fn begin(settings: &Arc<Tracing>, parent: Option<Context>, decided: Option<bool>, rng: &mut Rng) -> Box<Trace> {
        let sampled = decided.unwrap_or_else(|| rng.below(WHOLE).is_some_and(|drawn| drawn < settings.sampling.into()));
        let begun = || u128::from(id(rng)) << 64 | u128::from(rng.draw());
        let trace = parent.map_or_else(begun, |parent| parent.trace);
        Box::new(Trace {
            context: Context { trace, span: id(rng), sampled },
            parent: parent.map_or(0, |parent| parent.span),
            settings: settings.clone(),
            attributes: vec![],
            tries: vec![],
        })
    }

    /// Who gets the span; None: nobody.
    pub fn reported_to(&self) -> Option<&Arc<Provider>> {
        self.settings.provider.as_ref().filter(|_| self.context.sampled)
    }

    pub fn is_sampled(&self) -> bool {
        self.reported_to().is_some()
    }

    /// As it is written.
    pub fn id(&self) -> String {
        format!("{:032x}", self.context.trace)
    }

    /// Bytes that it takes while it waits, about.
    pub fn size(&self) -> usize {
        let attributes = self.attributes.iter().map(|(_, value)| size_of::<(Arc<str>, Box<str>)>() + value.len());
        size_of::<Trace>() + attributes.sum::<usize>() + self.tries.len() * size_of::<Try>()
    }
}

/// Never 0.
fn id(rng: &mut Rng) -> u64 {
    rng.draw().max(1)
}

/// What every span of a request has from its header: its name there, and among the attributes.
const HEADERS: [(&str, &str); 2] = [("user-agent", "user_agent.original"), ("x-request-id", "guid:x-request-id")];

/// What is asked for of a request with such a header.
fn attributes(settings: &Tracing, headers: &HeaderMap) -> Vec<(Arc<str>, Box<str>)> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(|text| settings.cut(text));
    let always = HEADERS.iter().filter_map(|(name, key)| Some((Arc::from(*key), header(name)?.into())));
    let asked = settings.tags.iter().filter_map(|Tag { name, value }| {
        let text = match value {
            TagValue::Literal(text) => settings.cut(text),
            TagValue::Header(name, default) => header(name).or((!default.is_empty()).then_some(&**default))?,
        };
        Some((name.clone(), text.into()))
    });
    always.chain(asked).collect()
}

#[cfg(test)]
mod tests;
