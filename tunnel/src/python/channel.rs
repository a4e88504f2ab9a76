//! gRPC, for the control plane's servers and for collectors.
use super::value_error;
use crate::grpc;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use pyo3::IntoPyObjectExt;
use std::sync::Arc;
use std::time::Duration;

/// A server that is called by gRPC.
#[pyclass(frozen)]
pub struct Channel(Arc<grpc::Channel>);

#[pymethods]
impl Channel {
    #[new]
    fn new(py: Python<'_>, url: &str, roots: Option<PyBackedBytes>) -> PyResult<Self> {
        py.detach(|| grpc::Channel::new(url, roots.as_deref())).map(Channel).map_err(PyOSError::new_err)
    }

    fn connect(&self, timeout_s: f64) -> PyResult<Call> {
        let deadline = Duration::try_from_secs_f64(timeout_s).map_err(value_error)?;
        Ok(Call(self.0.connect(Some(deadline))?))
    }

    #[pyo3(signature = (method, metadata, message=None, timeout_s=None))]
    fn call(
        &self,
        method: &str,
        metadata: Vec<(String, String)>,
        message: Option<PyBackedBytes>,
        timeout_s: Option<f64>,
    ) -> PyResult<Call> {
        let deadline = timeout_s.map(Duration::try_from_secs_f64).transpose().map_err(value_error)?;
        Ok(Call(self.0.call(method, &metadata, deadline, message.as_deref())?))
    }
}

/// A call that runs.
#[pyclass(frozen)]
pub struct Call(grpc::Call);

#[pymethods]
impl Call {
    fn fileno(&self) -> i32 {
        self.0.descriptor()
    }

    fn send(&self, message: PyBackedBytes) {
        self.0.send(&message);
    }

    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0
            .next()
            .map(|event| match event {
                grpc::Event::Message(message) => Ok(PyBytes::new(py, &message).into_any()),
                grpc::Event::End(Ok(())) => (0, "").into_bound_py_any(py),
                grpc::Event::End(Err(status)) => (status.code, status.text).into_bound_py_any(py),
            })
            .transpose()
    }

    fn cancel(&self) {
        self.0.cancel();
    }
}
