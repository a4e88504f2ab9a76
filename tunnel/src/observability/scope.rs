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
    /// Labels beside the standard ones, or in their place.
    pub tags: BTreeMap<Arc<str>, Expression>,
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
        let mut side = Side {
            metrics: message.metrics.iter().map(Metric::decode).collect::<Result<_, _>>()?,
            logging: message.access_logging.as_ref().map(Logging::decode).transpose()?,
            tracing: message.tracing.as_ref().map(Tracing::decode).map(Arc::new),
            headers: Box::default(),
        };
        let mut headers = BTreeSet::new();
        side.expressions().for_each(|one| one.request_headers(&mut |name| _ = headers.insert(name.into())));
        side.headers = headers.into_iter().collect();
        Ok(side)
    }

    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let tags = self.metrics.iter().flat_map(|metric| metric.tags.values());
        let logs = self.logging.iter().flat_map(|logging| &logging.logs);
        tags.chain(logs.filter_map(|log| log.filter.as_ref()))
    }

    /// What is different of a metric; None: nothing.
    pub fn metric(&self, name: MetricName) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }
}

impl Metric {
    fn decode(message: &proto::Metric) -> Result<Metric, String> {
        let tags = message.tags.iter().map(|(name, value)| Ok((name.as_str().into(), Expression::decode(value)?)));
        Ok(Metric {
            name: MetricName::try_from(message.name).map_err(|error| error.to_string())?,
            disabled: message.disabled,
            tags: tags.collect::<Result<_, String>>()?,
            removed: message.removed.iter().map(|name| name.as_str().into()).collect(),
        })
    }
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
