//! What a Telemetry object makes different of a series: labels of its own, some fewer, or no series at all.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::party::{Parties, Party};
use super::Direction;
use crate::mesh::Scopes;
use crate::observability::{Attributes, Metric, MetricName, Scope, Side};

/// Bytes of a label's value: whoever sends a request may choose some of them.
const VALUE_MAX: usize = 256;
/// The value where there are too many series to tell more of them apart.
pub const OTHER: &str = "other";

#[derive(Clone, Debug)]
pub struct Custom {
    scope: Arc<Scope>,
    direction: Direction,
    /// Of each expression of the scope's side.
    values: Box<[Arc<str>]>,
}

impl Custom {
    /// None: the series is as it is for all.
    pub fn of(
        scopes: &Scopes,
        parties: &Parties,
        direction: Direction,
        attributes: &dyn Attributes,
    ) -> Option<Arc<Custom>> {
        let scope = scope(scopes, parties, direction)?;
        let side = direction.side(scope);
        if side.metrics.is_empty() {
            return None;
        }
        let value = |text: String| match text.char_indices().nth(VALUE_MAX) {
            Some((end, _)) => Arc::from(&text[..end]),
            None => Arc::from(text),
        };
        let values = side.expressions.iter().map(|expression| value(expression.evaluate(attributes).to_string()));
        Some(Arc::new(Custom { scope: scope.clone(), direction, values: values.collect() }))
    }

    /// The same, not told apart by values.
    pub fn other(&self) -> Custom {
        Custom { values: self.values.iter().map(|_| OTHER.into()).collect(), ..self.clone() }
    }

    fn side(&self) -> &Side {
        self.direction.side(&self.scope)
    }

    pub fn metric(&self, name: MetricName) -> Option<&Metric> {
        self.side().metric(name)
    }

    /// Labels of a metric with their values.
    pub fn tags<'a>(&'a self, metric: &'a Metric) -> impl Iterator<Item = (&'a str, &'a str)> {
        metric.tags.iter().map(|(name, number)| (&**name, self.values.get(*number).map_or("", |value| value)))
    }

    /// Whether traffic can still be counted by it.
    pub fn is_current(&self, scopes: &Scopes) -> bool {
        self.values.is_empty() && scopes.all().any(|(_, scope)| Arc::ptr_eq(scope, &self.scope))
    }
}

/// What is in force for the workload whose tunnel reports.
fn scope<'a>(scopes: &'a Scopes, parties: &Parties, direction: Direction) -> Option<&'a Arc<Scope>> {
    let reporting = match direction {
        Direction::Inbound => &parties.destination,
        Direction::Outbound => &parties.source,
    };
    match reporting {
        Party::Workload(workload) => scopes.of(workload),
        Party::Unknown | Party::Baggage(_) => None,
    }
}

impl PartialEq for Custom {
    fn eq(&self, other: &Custom) -> bool {
        Arc::ptr_eq(&self.scope, &other.scope) && (self.direction, &self.values) == (other.direction, &other.values)
    }
}

impl Eq for Custom {}

impl Hash for Custom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.scope).hash(state);
        self.values.hash(state);
    }
}
