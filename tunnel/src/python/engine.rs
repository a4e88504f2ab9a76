//! The engine: the pods it serves, what it is told, and what it says of itself.
use super::{value_error, Applied, Export};
use crate::base::{Identity, NotAnIdentity, PodKey};
use crate::config::subscriptions::{News, Subscriptions};
use crate::{engine, http, sys, telemetry};
use prost::bytes::Bytes;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Method, path with query, and header fields.
type AskedRequest = (String, String, Vec<(String, String)>);

/// The threads that carry bytes. Methods may be called from any thread; none of them holds the interpreter's lock.
#[pyclass(frozen)]
pub struct Core(engine::Core);

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

    fn expire(&self, py: Python<'_>) {
        py.detach(|| self.0.expire());
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
