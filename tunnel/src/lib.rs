//! The byte path of the Warren tunnel, and its face towards Python: the only file that knows of Python.
//!
//! A connection's way: `proxy::outbound` takes it from an application to a tunnel, `proxy::inbound` from the tunnel to the
//! application at the other end. Below them: `node` (a pod's connections), `hbone` (tunnels, their sessions and streams),
//! `relay` (plain bytes), `tls` and `h2`. `decision` says what is to be done, from the `mesh`, and `policy` whether it may
//! be. `engine` is all threads, `direct` what goes past them, `sys` the kernel, `base` what all rooms speak of.
mod base;
pub mod config; // this, `h2`, `policy` and `routes`: for the programs in benches/
mod decision;
mod direct;
mod dns;
mod engine;
mod external;
#[cfg(fuzzing)]
pub mod fuzzing;
mod grpc;
pub mod h2;
mod hbone;
pub mod http;
mod limits;
mod mesh;
mod node;
mod observability;
mod pending;
pub mod policy;
mod proxy;
mod relay;
pub mod routes;
mod sys;
mod telemetry;
mod tls;

pub use sys::pieces; // for the programs in benches/

use base::{Identity, NotAnIdentity, PodKey};
use config::messages;
use config::subscriptions::{News, Subscriptions};
use prost::bytes::Bytes;
use prost::Message;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use pyo3::IntoPyObjectExt;
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The threads that carry bytes. Methods may be called from any thread; none of them holds the interpreter's lock.
/// Method, path with query, and header fields.
type AskedRequest = (String, String, Vec<(String, String)>);

#[pyclass(frozen)]
struct Core(engine::Core);

fn value_error(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn places((pins, lock): (PathBuf, PathBuf)) -> sys::bpf::Places {
    sys::bpf::Places { pins, lock }
}

fn texts(names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn identity(text: &str) -> PyResult<Identity> {
    text.parse().map_err(|error: NotAnIdentity| value_error(error))
}

#[pymethods]
impl Core {
    #[new]
    #[pyo3(signature = (*, node, workers, spin_us, access_log, on_demand=None, direct=None, pending=None, dns=None, crl=false, path_normalization="base", kept=false, standby=false))]
    #[allow(clippy::too_many_arguments)] // named ones, in Python
    fn new(
        node: String,
        workers: usize,
        spin_us: u64,
        access_log: &str,
        on_demand: Option<String>,
        direct: Option<(PathBuf, PathBuf)>,
        pending: Option<(PathBuf, PathBuf)>,
        dns: Option<PathBuf>,
        crl: bool,
        path_normalization: &str,
        kept: bool,
        standby: bool,
    ) -> PyResult<Self> {
        let normalization = path_normalization.parse().map_err(value_error)?;
        let settings = engine::Settings {
            node,
            workers,
            spin: Duration::from_micros(spin_us),
            telemetry: telemetry::Options { access_log: access_log.parse().map_err(value_error)? },
            on_demand,
            direct: direct.map(places),
            pending: pending.map(places),
            dns,
            crl,
            http: http::Settings { normalization, ..http::Settings::default() },
            kept,
            standby,
        };
        engine::Core::new(settings).map(Core).map_err(PyErr::from)
    }

    #[allow(clippy::too_many_arguments)] // named ones, in Python
    fn add_pod(
        &self,
        py: Python<'_>,
        uid: String,
        netns: i32,
        name: &str,
        namespace: &str,
        service_account: &str,
        trust_domain: String,
    ) -> PyResult<()> {
        if netns < 0 {
            return Err(PyOSError::new_err("not a descriptor"));
        }
        // SAFETY: the caller keeps its descriptor open during the call; one that is not open makes the next line fail.
        let netns = unsafe { BorrowedFd::borrow_raw(netns) }.try_clone_to_owned()?;
        let key = PodKey { namespace: namespace.into(), name: name.into(), service_account: service_account.into() };
        let pod = engine::NewPod { uid, netns, key, trust_domain };
        py.detach(|| self.0.add_pod(pod)).map_err(PyErr::from)
    }

    fn add_gateway(
        &self,
        py: Python<'_>,
        name: &str,
        namespace: &str,
        service_account: &str,
        trust_domain: String,
    ) -> PyResult<()> {
        let netns = std::fs::File::open("/proc/self/ns/net")?.into();
        let key = PodKey { namespace: namespace.into(), name: name.into(), service_account: service_account.into() };
        let pod = engine::NewPod { uid: format!("{namespace}/{name}"), netns, key, trust_domain };
        py.detach(|| self.0.add_gateway(pod));
        Ok(())
    }

    #[pyo3(signature = (uid, drain=false))]
    fn remove_pod(&self, py: Python<'_>, uid: &str, drain: bool) {
        py.detach(|| self.0.remove_pod(uid, drain));
    }

    fn serve(&self, py: Python<'_>, left: Vec<(u64, u16, i32)>) -> PyResult<Vec<(String, String)>> {
        let owned = |(netns, port, fd)| {
            if fd < 0 {
                return Err(PyOSError::new_err("not a descriptor"));
            }
            // SAFETY: the caller gives its descriptors away.
            Ok(((netns, port), unsafe { OwnedFd::from_raw_fd(fd) }))
        };
        let left = left.into_iter().map(owned).collect::<PyResult<_>>()?;
        let failed = py.detach(|| self.0.serve(left));
        Ok(failed.into_iter().map(|(uid, error)| (uid, error.to_string())).collect())
    }

    fn retire(&self, py: Python<'_>) {
        py.detach(|| self.0.retire());
    }

    fn open(&self, py: Python<'_>) -> usize {
        py.detach(|| self.0.open())
    }

    fn listeners(&self) -> Vec<(u64, u16, i32)> {
        self.0.listeners().into_iter().map(|((netns, port), fd)| (netns, port, fd.into_raw_fd())).collect()
    }

    fn pods(&self) -> Vec<String> {
        self.0.pods()
    }

    fn apply(&self, py: Python<'_>, push: PyBackedBytes, whole: Vec<String>) -> PyResult<Applied> {
        let push = Bytes::from_owner(push);
        py.detach(|| self.0.apply(push, &whole)).map(Applied).map_err(value_error)
    }

    fn held<'py>(&self, py: Python<'py>, type_url: &str) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &py.detach(|| self.0.held(type_url)))
    }

    fn versions(&self, py: Python<'_>, type_url: &str) -> HashMap<String, String> {
        py.detach(|| self.0.versions(type_url))
    }

    fn names(&self, py: Python<'_>) -> Vec<String> {
        texts(&py.detach(|| self.0.names()))
    }

    fn lookups_fd(&self) -> i32 {
        self.0.lookups().descriptor()
    }

    fn lookups(&self) -> Vec<String> {
        texts(&self.0.lookups().names(Instant::now()))
    }

    fn resolve(&self, py: Python<'_>, name: &str, addresses: Option<Vec<IpAddr>>) -> bool {
        py.detach(|| self.0.resolve(name, addresses.as_deref()))
    }

    fn forget_name(&self, py: Python<'_>, name: &str) {
        py.detach(|| self.0.forget_name(name));
    }

    fn demand_fd(&self) -> Option<i32> {
        self.0.subscriptions().map(Subscriptions::descriptor)
    }

    fn demand_news(&self) -> (Vec<String>, Vec<String>) {
        let News { asked, dropped } = self.0.subscriptions().map(Subscriptions::news).unwrap_or_default();
        (texts(&asked), texts(&dropped))
    }

    fn demanded(&self) -> Vec<String> {
        texts(&self.0.subscriptions().map(Subscriptions::all).unwrap_or_default())
    }

    fn unknown_keys_fd(&self) -> i32 {
        self.0.unknown_keys().descriptor()
    }

    fn unknown_keys(&self) -> Vec<String> {
        texts(&self.0.unknown_keys().news())
    }

    fn forget_unused(&self, py: Python<'_>, since_s: f64) -> PyResult<()> {
        let since = Duration::try_from_secs_f64(since_s).map_err(value_error)?;
        py.detach(|| self.0.forget_unused(since));
        Ok(())
    }

    fn new_key(&self, py: Python<'_>, identity: &str) -> PyResult<String> {
        let identity = self::identity(identity)?;
        py.detach(|| self.0.new_key(&identity)).map_err(value_error)
    }

    fn set_certificate(&self, py: Python<'_>, identity: &str, chain: Vec<String>, roots: &str) -> PyResult<i64> {
        let identity = self::identity(identity)?;
        py.detach(|| self.0.set_certificate(&identity, &chain, roots)).map_err(value_error)
    }

    fn forget_identity(&self, identity: &str) -> PyResult<()> {
        self.0.forget_identity(&self::identity(identity)?);
        Ok(())
    }

    fn set_crl(&self, py: Python<'_>, data: Option<PyBackedBytes>) -> PyResult<(usize, Option<i64>)> {
        py.detach(|| self.0.set_crl(data.as_deref())).map_err(value_error)
    }

    fn lack_crl(&self, problem: &str) {
        self.0.lack_crl(problem);
    }

    fn revoked(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| self.0.revoked().iter().map(Identity::to_string).collect())
    }

    fn metrics(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.metrics())
    }

    fn connections(&self, py: Python<'_>) -> String {
        format!("[{}]", py.detach(|| self.0.connections()).join(","))
    }

    #[pyo3(signature = (source, to, port=None, address=None, request=None))]
    fn explain(
        &self,
        py: Python<'_>,
        source: &str,
        to: &str,
        port: Option<u16>,
        address: Option<&str>,
        request: Option<AskedRequest>,
    ) -> PyResult<String> {
        let request = request.map(|(method, path, headers)| engine::RequestQuestion { method, path, headers });
        let question = engine::Question { from: source, to, port, address, request };
        py.detach(|| self.0.explain(&question)).map_err(value_error)
    }

    fn check(&self, py: Python<'_>, pushes: Vec<PyBackedBytes>) -> PyResult<String> {
        let pushes = pushes.into_iter().map(Bytes::from_owner).collect();
        py.detach(|| self.0.check(pushes)).map_err(value_error)
    }

    fn policies(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.policies())
    }

    #[pyo3(signature = (service=None))]
    fn routes(&self, py: Python<'_>, service: Option<&str>) -> PyResult<String> {
        py.detach(|| self.0.routes(service)).map_err(value_error)
    }

    fn gateway_listeners(&self, py: Python<'_>) -> PyResult<String> {
        py.detach(|| self.0.gateway_listeners()).map_err(value_error)
    }

    fn explain_route(
        &self,
        py: Python<'_>,
        source: &str,
        method: &str,
        url: &str,
        headers: Vec<(String, String)>,
    ) -> PyResult<String> {
        let question = engine::RouteQuestion { from: source, method, url, headers };
        py.detach(|| self.0.explain_route(&question)).map_err(value_error)
    }

    #[allow(clippy::too_many_arguments)] // named ones, in Python
    #[pyo3(signature = (*, source, to, port=None, method="GET", path="/", headers=vec![]))]
    fn why(
        &self,
        py: Python<'_>,
        source: String,
        to: String,
        port: Option<u16>,
        method: &str,
        path: &str,
        headers: Vec<(String, String)>,
    ) -> PyResult<String> {
        let (method, path) = (method.to_owned(), path.to_owned());
        let question = engine::WhyQuestion { from: source, to, port, method, path, headers };
        py.detach(|| self.0.why(&question)).map_err(value_error)
    }

    fn recent(&self, py: Python<'_>, after: u64) -> String {
        py.detach(|| self.0.recent(after))
    }

    #[pyo3(signature = (new=None))]
    fn access_log(&self, new: Option<&str>) -> PyResult<&'static str> {
        Ok(self.0.access_log(new.map(str::parse).transpose().map_err(value_error)?).name())
    }

    fn exports(&self, py: Python<'_>, busy: Vec<(String, String)>) -> Vec<Export> {
        let is_busy = |provider: &str, signal: &str| busy.iter().any(|(one, of)| one == provider && of == signal);
        py.detach(|| self.0.exports(is_busy)).into_iter().map(Export).collect()
    }

    fn address_of(&self, py: Python<'_>, export: &Export) -> String {
        py.detach(|| self.0.address_of(&export.0))
    }

    fn dump(&self, py: Python<'_>) -> String {
        py.detach(|| engine::dump::dump(&self.0))
    }

    fn drain(&self, py: Python<'_>, deadline_s: f64) -> PyResult<usize> {
        let deadline = Duration::try_from_secs_f64(deadline_s).map_err(value_error)?;
        Ok(py.detach(|| self.0.drain(deadline)))
    }
}

/// What became of a push.
#[pyclass(frozen)]
struct Applied(engine::Applied);

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
struct Export(telemetry::Batch);

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

/// A server that is called by gRPC.
#[pyclass(frozen)]
struct Channel(Arc<grpc::Channel>);

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
struct Call(grpc::Call);

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

/// An id, metadata and features.
type Node = (String, Vec<(String, String)>, Vec<String>);

#[pyfunction]
#[pyo3(signature = (type_url, *, node=None, nonce="", subscribe=vec![], unsubscribe=vec![], error=None))]
fn discovery_request<'py>(
    py: Python<'py>,
    type_url: String,
    node: Option<Node>,
    nonce: &str,
    subscribe: Vec<String>,
    unsubscribe: Vec<String>,
    error: Option<(i32, String)>,
) -> Bound<'py, PyBytes> {
    let node = node.map(|(id, metadata, features)| {
        let metadata = Some(messages::Struct::of(metadata));
        messages::Node { id, metadata, features }
    });
    let error = error.map(|(code, message)| messages::Status { code, message });
    let nonce = nonce.to_owned();
    let request = messages::DiscoveryRequest { node, type_url, subscribe, unsubscribe, nonce, error };
    PyBytes::new(py, &request.encode_to_vec())
}

#[pyfunction]
fn certificate_request(py: Python<'_>, csr: String, metadata: Vec<(String, String)>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &messages::certificate_request(csr, metadata))
}

#[pyfunction]
fn certificate_chain(answer: &[u8]) -> PyResult<Vec<String>> {
    messages::certificate_chain(answer).map_err(value_error)
}

#[pyfunction]
fn export_refused(answer: &[u8]) -> PyResult<(i64, String)> {
    messages::refused(answer).map(|refused| (refused.count, refused.why)).map_err(value_error)
}

#[pyfunction]
fn zds_hello(py: Python<'_>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, messages::HELLO)
}

/// Of a pod: its name, namespace and service account.
type Info = (String, String, String);

#[pyfunction]
fn zds_request(packet: &[u8]) -> PyResult<(&'static str, String, Option<Info>, bool)> {
    use messages::Payload;
    let request = messages::PodRequest::decode(packet).map_err(value_error)?;
    Ok(match request.payload {
        Some(Payload::Add(pod)) => {
            let info = pod.info.map(|info| (info.name, info.namespace, info.service_account));
            ("add", pod.uid, info, false)
        }
        Some(Payload::Delete(pod)) => ("del", pod.uid, None, pod.drain),
        Some(Payload::SnapshotSent(_)) => ("snapshot_sent", String::new(), None, false),
        Some(Payload::Keep(pod)) => ("keep", pod.uid, None, false),
        None => ("", String::new(), None, false),
    })
}

#[pyfunction]
fn zds_answer(py: Python<'_>, error: String) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &messages::pod_answer(error))
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    for function in [
        wrap_pyfunction!(discovery_request, module)?,
        wrap_pyfunction!(certificate_request, module)?,
        wrap_pyfunction!(certificate_chain, module)?,
        wrap_pyfunction!(export_refused, module)?,
        wrap_pyfunction!(zds_hello, module)?,
        wrap_pyfunction!(zds_request, module)?,
        wrap_pyfunction!(zds_answer, module)?,
    ] {
        module.add_function(function)?;
    }
    module.add_class::<Core>()?;
    module.add_class::<Applied>()?;
    module.add_class::<Export>()?;
    module.add_class::<Channel>()?;
    module.add_class::<Call>()
}
