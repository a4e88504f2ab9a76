//! One merged Telemetry, as connections and requests ask it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;

use super::attribute::Attributes;
use super::expression::Expression;
use super::proto;
pub use super::proto::MetricName;
use super::tracing::{Provider, Tracing};
use crate::config::Resource;

/// What is told of the traffic of workloads.
#[derive(Debug, Default)]
pub struct Scope {
    /// Of what they send.
    pub client: Side,
    /// Of what comes to them.
    pub server: Side,
}

#[derive(Debug, Default)]
pub struct Side {
    /// Those only that differ from the standard.
    pub metrics: Vec<Metric>,
    /// Of their labels, each once.
    pub expressions: Vec<Expression>,
    /// None: the process's setting holds.
    pub logging: Option<Logging>,
    pub tracing: Option<Arc<Tracing>>,
    /// Headers of requests that its expressions ask for, in lower case.
    pub headers: Box<[Box<str>]>,
}

#[derive(Debug)]
pub struct Metric {
    pub name: MetricName,
    pub disabled: bool,
    /// Labels beside the standard ones, or in their place, with the numbers of their expressions.
    pub tags: BTreeMap<Arc<str>, usize>,
    /// Labels that it does not have.
    pub removed: Vec<Box<str>>,
}

#[derive(Debug)]
pub struct Logging {
    /// None of them: nothing is logged.
    pub logs: Vec<Log>,
}

/// A log that requests and connections go to.
#[derive(Debug)]
pub struct Log {
    pub name: Box<str>,
    /// None: it is this process's own.
    pub collector: Option<Arc<Provider>>,
    /// Which of them; None: all.
    filter: Option<Expression>,
}

impl Scope {
    /// Its name, and what it says.
    pub fn decode(sent: &Resource) -> Result<(String, Scope), String> {
        let body = sent.of(proto::TELEMETRY)?.clone();
        let message = proto::Telemetry::decode(body).map_err(|error| error.to_string())?;
        let side = |side: &Option<proto::Side>| side.as_ref().map(Side::decode).transpose();
        let (client, server) = (side(&message.client)?, side(&message.server)?);
        let scope = Scope { client: client.unwrap_or_default(), server: server.unwrap_or_default() };
        Ok((message.name, scope))
    }
}

impl Side {
    fn decode(message: &proto::Side) -> Result<Side, String> {
        let mut known = vec![];
        let metrics = message.metrics.iter().map(|metric| Metric::decode(metric, &mut known));
        let metrics = metrics.collect::<Result<_, _>>()?;
        let mut side = Side {
            metrics,
            expressions: known.into_iter().map(Expression::decode).collect::<Result<_, _>>()?,
            logging: message.access_logging.as_ref().map(Logging::decode).transpose()?,
            tracing: message.tracing.as_ref().map(Tracing::decode).map(Arc::new),
            headers: Box::default(),
        };
        let mut headers = BTreeSet::new();
        let filters = side.logging.iter().flat_map(|logging| &logging.logs).filter_map(|log| log.filter.as_ref());
        let all = side.expressions.iter().chain(filters);
        all.for_each(|one| one.request_headers(&mut |name| _ = headers.insert(name.into())));
        side.headers = headers.into_iter().collect();
        Ok(side)
    }

    /// What is different of a metric; None: nothing.
    pub fn metric(&self, name: MetricName) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }
}

impl Metric {
    /// Whether it does not have a standard label as it is.
    pub fn replaces(&self, label: &str) -> bool {
        self.tags.contains_key(label) || self.removed.iter().any(|name| **name == *label)
    }

    /// known: the expressions so far, to which its own are added.
    fn decode<'a>(message: &'a proto::Metric, known: &mut Vec<&'a proto::Expression>) -> Result<Metric, String> {
        let mut number = |value: &'a proto::Expression| {
            known.iter().position(|other| *other == value).unwrap_or_else(|| {
                known.push(value);
                known.len() - 1
            })
        };
        let tags = message.tags.iter().map(|(name, value)| (label(name), number(value))).collect();
        Ok(Metric {
            name: MetricName::try_from(message.name).map_err(|error| error.to_string())?,
            disabled: message.disabled,
            tags,
            removed: message.removed.iter().map(|name| (*label(name)).into()).collect(),
        })
    }
}

/// A label's name as Prometheus takes it, which keeps `le` for itself.
fn label(name: &str) -> Arc<str> {
    let fits = |(index, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (index > 0 && c.is_ascii_digit());
    let plain: String = name.chars().enumerate().map(|(index, c)| if fits((index, c)) { c } else { '_' }).collect();
    (if plain == "le" { "le_".to_owned() } else { plain }).into()
}

impl Logging {
    fn decode(message: &proto::AccessLogging) -> Result<Logging, String> {
        let logs = message.logs.iter().map(|log| {
            let provider = log.provider.clone().unwrap_or_default();
            let filter = log.filter.as_ref().map(Expression::decode).transpose()?;
            let collector = Provider::decode(&provider).map(Arc::new);
            Ok(Log { name: provider.name.into(), collector, filter })
        });
        Ok(Logging { logs: logs.collect::<Result<_, String>>()? })
    }
}

impl Log {
    pub fn wants(&self, one: &dyn Attributes) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.evaluate(one).is_true())
    }
}
