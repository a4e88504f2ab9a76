//! Why a request is routed as it is. The rule is found as for a request that is served; the conditions of those before it are
//! tested by the code that tests them there.

use serde_json::{json, Value};

use super::connection::Connection;
use super::decision::Decision;
use super::matching::{Client, Request};
use super::scope::Scope;

impl Scope {
    /// `outcome`, the `rule` with its `place` and the `match` that let the request in, and each `earlier` rule with the
    /// condition that does not hold, for each of its matches.
    pub fn explain(&self, client: &Client<'_>, request: &Request<'_>) -> Value {
        let found = self.find(client, request);
        let before = found.map_or(self.http.len(), |(rule, _)| rule);
        let earlier = self.http[..before].iter().map(|rule| {
            let mismatches = rule.matches.iter().filter_map(|one| one.unmet(client, request));
            json!({
                "name": &*rule.name,
                "origin": &*rule.origin,
                "mismatches": mismatches.map(|unmet| unmet.mismatch(request)).collect::<Vec<_>>(),
            })
        });
        json!({
            "outcome": outcome(&self.decide(client, request, |_| 0)),
            "rule": found.map(|(rule, place)| json!({
                "place": rule,
                "match": place,
                "route": &**self.http[rule].route(place),
                "told": self.http[rule].json(),
            })),
            "earlier": earlier.collect::<Vec<_>>(),
        })
    }

    /// The same of a connection.
    pub fn explain_connection(&self, client: &Client<'_>, connection: &Connection<'_>) -> Value {
        let found = self.connections.iter().position(|rule| rule.holds(client, connection));
        let earlier = self.connections[..found.unwrap_or(self.connections.len())].iter().map(|rule| {
            let mismatches = rule.matches.iter().filter_map(|one| one.unmet(client, connection));
            json!({
                "name": &*rule.name,
                "origin": &*rule.origin,
                "mismatches": mismatches.map(|unmet| unmet.mismatch()).collect::<Vec<_>>(),
            })
        });
        json!({
            "outcome": { "kind": if found.is_some() { "forward" } else { "close" } },
            "rule": found.map(|rule| json!({
                "place": rule,
                "route": &*self.connections[rule].name,
                "told": self.connections[rule].json(),
            })),
            "earlier": earlier.collect::<Vec<_>>(),
        })
    }
}

/// Of a request that is forwarded, what does not depend on chance.
fn outcome(decision: &Decision) -> Value {
    match decision {
        Decision::Forward(forwarded) => json!({ "kind": "forward", "path": forwarded.path }),
        Decision::Redirect { status, location, .. } => {
            json!({ "kind": "redirect", "status": status.as_u16(), "location": location })
        }
        Decision::Respond { status, body, .. } => {
            json!({ "kind": "respond", "status": status.as_u16(), "body": String::from_utf8_lossy(body) })
        }
        Decision::NotFound => json!({ "kind": "respond", "status": 404, "body": "" }),
        Decision::Unimplemented => json!({ "kind": "respond", "status": 200, "grpc_status": 12 }),
    }
}
