//! One merged Telemetry, as connections and requests ask it.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;

use super::expression::Expression;
use super::proto;
pub use super::proto::MetricName;
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
    pub tracing: Option<Arc<proto::Tracing>>,
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
    /// None of them: nothing is logged. Each with what is logged there, all without one.
    pub logs: Vec<(proto::Provider, Option<Expression>)>,
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
        Ok(Side {
            metrics: message.metrics.iter().map(Metric::decode).collect::<Result<_, _>>()?,
            logging: message.access_logging.as_ref().map(Logging::decode).transpose()?,
            tracing: message.tracing.clone().map(Arc::new),
        })
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
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.logs.iter().map(|(provider, _)| provider.name.as_str())
    }

    fn decode(message: &proto::AccessLogging) -> Result<Logging, String> {
        let logs = message.logs.iter().map(|log| {
            let filter = log.filter.as_ref().map(Expression::decode).transpose()?;
            Ok((log.provider.clone().unwrap_or_default(), filter))
        });
        Ok(Logging { logs: logs.collect::<Result<_, String>>()? })
    }
}
