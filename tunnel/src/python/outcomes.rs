//! What the engine hands out: what became of a push, and what is to be sent to a collector.
use crate::{engine, telemetry};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// What became of a push.
#[pyclass(frozen)]
pub struct Applied(pub engine::Applied);

#[pymethods]
impl Applied {
    #[getter]
    fn type_url(&self) -> &str {
        &self.0.type_url
    }

    #[getter]
    fn nonce(&self) -> &str {
        &self.0.nonce
    }

    #[getter]
    fn partial(&self) -> bool {
        self.0.partial
    }

    #[getter]
    fn changed(&self) -> usize {
        self.0.changed
    }

    #[getter]
    fn removed(&self) -> usize {
        self.0.removed
    }

    #[getter]
    fn rejected(&self) -> Vec<(&str, &str)> {
        self.0.rejected.iter().map(|rejected| (rejected.name.as_str(), rejected.reason.as_str())).collect()
    }
}

/// A request to a collector of OpenTelemetry's.
#[pyclass(frozen)]
pub struct Export(pub telemetry::Batch);

#[pymethods]
impl Export {
    #[getter]
    fn provider(&self) -> &str {
        &self.0.provider.name
    }

    #[getter]
    fn signal(&self) -> &str {
        self.0.signal.name()
    }

    #[getter]
    fn count(&self) -> usize {
        self.0.count
    }

    #[getter]
    fn dropped(&self) -> u64 {
        self.0.dropped
    }

    #[getter]
    fn collector(&self) -> String {
        self.0.provider.address()
    }

    #[getter]
    fn http_path(&self) -> Option<&str> {
        self.0.provider.http_path.as_deref()
    }

    #[getter]
    fn headers(&self) -> Vec<(String, String)> {
        self.0.provider.headers.clone()
    }

    #[getter]
    fn timeout(&self) -> f64 {
        self.0.provider.timeout.as_secs_f64()
    }

    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.body)
    }
}
