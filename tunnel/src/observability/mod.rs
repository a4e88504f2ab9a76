//! Istio's Telemetry objects as the agent has merged them: what is told of whose traffic. Which records there are of it is
//! the room `telemetry`'s.

mod attribute;
mod expression;
pub mod proto;
mod scope;
mod tracing;

pub use attribute::{Attribute, Attributes, Value};
pub use scope::{Logging, Metric, MetricName, Scope, Side};
pub use tracing::{Provider, Tag, TagValue, Tracing};
