//! The two sides of a connection.

use crate::observability::{Scope, Side};

/// Which side of a connection this tunnel is on; Istio's `reporter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// At the destination.
    Inbound,
    /// At the source.
    Outbound,
}

impl Direction {
    pub const ALL: [Direction; 2] = [Direction::Inbound, Direction::Outbound];

    pub fn name(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        }
    }

    /// What is told of it.
    pub fn side(self, scope: &Scope) -> &Side {
        match self {
            Direction::Inbound => &scope.server,
            Direction::Outbound => &scope.client,
        }
    }

    pub fn reporter(self) -> &'static str {
        match self {
            Direction::Inbound => "destination",
            Direction::Outbound => "source",
        }
    }
}
