//! Spans and log records on their way to OpenTelemetry's collectors.
use super::Core;
use crate::telemetry::Batch;

impl Core {
    /// What waits: at most one request for each provider and signal that is not busy.
    pub fn exports(&self, is_busy: impl Fn(&str, &str) -> bool) -> Vec<Batch> {
        self.shared.telemetry.exports(|provider, signal| is_busy(&provider.name, signal.name()))
    }

    /// Where its collector is, as `host:port`: one of the endpoints, where it is a service of the mesh.
    pub fn address_of(&self, export: &Batch) -> String {
        let Batch { provider, of, .. } = export;
        let endpoint = of.as_ref().and_then(|of| self.mesh().collector(provider, of));
        endpoint.map_or_else(|| provider.address(), |endpoint| endpoint.to_string())
    }
}
