//! Messages that Python's half sends and gets, encoded and decoded: without protobuf's modules a tunnel needs less memory.
use super::value_error;
use crate::config::messages;
use prost::Message;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// An id, metadata and features.
type Node = (String, Vec<(String, String)>, Vec<String>);

#[pyfunction]
#[pyo3(signature = (type_url, *, node=None, nonce="", subscribe=vec![], unsubscribe=vec![], error=None))]
pub fn discovery_request<'py>(
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
pub fn certificate_request(py: Python<'_>, csr: String, metadata: Vec<(String, String)>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &messages::certificate_request(csr, metadata))
}

#[pyfunction]
pub fn certificate_chain(answer: &[u8]) -> PyResult<Vec<String>> {
    messages::certificate_chain(answer).map_err(value_error)
}

#[pyfunction]
pub fn export_refused(answer: &[u8]) -> PyResult<(i64, String)> {
    messages::refused(answer).map(|refused| (refused.count, refused.why)).map_err(value_error)
}

#[pyfunction]
pub fn zds_hello(py: Python<'_>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, messages::HELLO)
}

/// Of a pod: its name, namespace and service account.
type Info = (String, String, String);

#[pyfunction]
pub fn zds_request(packet: &[u8]) -> PyResult<(&'static str, String, Option<Info>, bool)> {
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
pub fn zds_answer(py: Python<'_>, error: String) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &messages::pod_answer(error))
}
