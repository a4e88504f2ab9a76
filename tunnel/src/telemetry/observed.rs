//! What is kept of a request while it is under way, for those who look at it (Istio's `Telemetry`).

use super::trace::Trace;
use super::Direction;
use crate::base::Rng;
use crate::observability::{Scope, Side};
use http::HeaderMap;
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// None: nobody has said anything.
    pub scope: Option<Arc<Scope>>,
    /// Those that expressions ask for.
    pub headers: Vec<(Box<str>, Box<str>)>,
    pub trace: Option<Box<Trace>>,
}

impl Observed {
    /// A request begins. Where its trace is followed its header then says where that is.
    pub fn request(scope: &Arc<Scope>, direction: Direction, headers: &mut HeaderMap, rng: &mut Rng) -> Observed {
        let side = direction.side(scope);
        Observed {
            scope: Some(scope.clone()),
            headers: asked_for(side, headers),
            trace: side.tracing.as_ref().map(|tracing| Trace::of_request(tracing, headers, rng)),
        }
    }

    /// Bytes that it takes, about.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        headers + self.trace.as_ref().map_or(0, |trace| trace.size())
    }
}

fn asked_for(side: &Side, headers: &HeaderMap) -> Vec<(Box<str>, Box<str>)> {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    side.headers.iter().filter_map(|name| Some((name.clone(), value(name)?.into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{a_mesh, logged, request, silent};
    use super::super::{Batch, Flags, Request, Signal, WorkerTelemetry};
    use super::*;
    use crate::config::Resource;
    use crate::observability::proto::{self, Operator, ProviderKind};
    use prost::Message;

    fn provider(name: &str, kind: ProviderKind) -> proto::Provider {
        proto::Provider { name: name.into(), kind: kind as i32, ..Default::default() }
    }

    fn errors() -> proto::Expression {
        let of = |operator: Operator| proto::Expression { operator: operator as i32, ..Default::default() };
        let code = proto::Expression { text: "response.code".into(), ..of(Operator::Attribute) };
        let number = proto::Expression { number: 400.0, ..of(Operator::Number) };
        proto::Expression { operands: vec![code, number], ..of(Operator::GreaterOrEqual) }
    }

    fn scope(logs: Vec<proto::Log>, tracing: Option<proto::Tracing>) -> Arc<Scope> {
        let client = proto::Side { access_logging: Some(proto::AccessLogging { logs }), tracing, ..Default::default() };
        let body = proto::Telemetry { client: Some(client), ..Default::default() }.encode_to_vec().into();
        let sent = Resource { type_url: proto::TELEMETRY.into(), body, ..Default::default() };
        Arc::new(Scope::decode(&sent).unwrap().1)
    }

    fn log(provider: proto::Provider, filter: Option<proto::Expression>) -> proto::Log {
        proto::Log { provider: Some(provider), filter }
    }

    /// A good request and one that fails.
    fn two(worker: &WorkerTelemetry, scope: &Arc<Scope>) {
        let mesh = a_mesh();
        for status in [200, 503] {
            let mut headers = HeaderMap::new();
            let observed = Observed::request(scope, Direction::Outbound, &mut headers, &mut Rng::seeded(status.into()));
            worker.request(Request { observed, ..request(&mesh, status, Flags::default()) });
        }
    }

    #[test]
    fn each_collector_gets_what_it_asks_for() {
        let otel = || provider("otel", ProviderKind::Opentelemetry);
        let tracing = proto::Tracing { providers: vec![otel()], sampling: 100.0, ..Default::default() };
        let scope = scope(vec![log(otel(), Some(errors()))], Some(tracing));
        let telemetry = silent();
        two(&telemetry.worker(), &scope);
        telemetry.flush();
        let taken = telemetry.exports(|_, _| false);
        let told = |batch: &Batch| (&*batch.provider.name == "otel", batch.signal, batch.count, batch.dropped);
        let told: Vec<_> = taken.iter().map(told).collect();
        assert_eq!(told, [(true, Signal::Traces, 2, 0), (true, Signal::Logs, 1, 0)]);
    }

    #[test]
    fn what_a_telemetry_says_of_logs_goes_before_the_setting() {
        let file = || provider("envoy", ProviderKind::File);
        for (logs, setting, lines) in [
            (vec![], "all", 0),
            (vec![log(file(), None)], "off", 2),
            (vec![log(file(), Some(errors()))], "off", 1),
            (vec![log(file(), Some(errors())), log(file(), None)], "off", 2),
        ] {
            let scope = scope(logs, None);
            assert_eq!(logged(setting, |worker| two(worker, &scope)).len(), lines, "{scope:?}");
        }
    }
}
