//! The small messages that are exchanged with the agent, the authority and collectors: as in `protocols/*.proto`.
use prost::{DecodeError, Message};
use std::collections::HashMap;

/// A `DeltaDiscoveryRequest`; what is held of its type follows it (`push::held`).
#[derive(Clone, PartialEq, Message)]
pub struct DiscoveryRequest {
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    #[prost(string, tag = "2")]
    pub type_url: String,
    #[prost(string, repeated, tag = "3")]
    pub subscribe: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub unsubscribe: Vec<String>,
    #[prost(string, tag = "6")]
    pub nonce: String,
    #[prost(message, optional, tag = "7")]
    pub error: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Struct>,
    #[prost(string, repeated, tag = "10")]
    pub features: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

/// A `google.protobuf.Struct` of texts.
#[derive(Clone, PartialEq, Message)]
pub struct Struct {
    #[prost(map = "string, message", tag = "1")]
    fields: HashMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, optional, tag = "3")]
    text: Option<String>,
}

impl Struct {
    pub fn of(fields: Vec<(String, String)>) -> Self {
        Struct { fields: fields.into_iter().map(|(name, text)| (name, Value { text: Some(text) })).collect() }
    }
}

#[derive(Clone, PartialEq, Message)]
struct CertificateRequest {
    #[prost(string, tag = "1")]
    csr: String,
    #[prost(message, optional, tag = "4")]
    metadata: Option<Struct>,
}

#[derive(Clone, PartialEq, Message)]
struct CertificateResponse {
    #[prost(string, repeated, tag = "1")]
    chain: Vec<String>,
}

/// An `IstioCertificateRequest`.
pub fn certificate_request(csr: String, metadata: Vec<(String, String)>) -> Vec<u8> {
    CertificateRequest { csr, metadata: Some(Struct::of(metadata)) }.encode_to_vec()
}

/// The chain of an `IstioCertificateResponse`, PEM.
pub fn certificate_chain(message: &[u8]) -> Result<Vec<String>, DecodeError> {
    Ok(CertificateResponse::decode(message)?.chain)
}

#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    refused: Option<Refused>,
}

/// What a collector has not taken of a request, and why.
#[derive(Clone, PartialEq, Message)]
pub struct Refused {
    #[prost(int64, tag = "1")]
    pub count: i64,
    #[prost(string, tag = "2")]
    pub why: String,
}

/// Of an `ExportTraceServiceResponse`, or of logs.
pub fn refused(message: &[u8]) -> Result<Refused, DecodeError> {
    Ok(ExportResponse::decode(message)?.refused.unwrap_or_default())
}

/// A `ZdsHello` of version 1.
pub const HELLO: &[u8] = &[8, 1];

#[derive(Clone, PartialEq, Message)]
pub struct PodRequest {
    #[prost(oneof = "Payload", tags = "1, 2, 3, 5")]
    pub payload: Option<Payload>,
}

/// Of a `WorkloadRequest`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Payload {
    #[prost(message, tag = "1")]
    Add(AddPod),
    #[prost(message, tag = "2")]
    Delete(DeletePod),
    #[prost(message, tag = "3")]
    SnapshotSent(Empty),
    #[prost(message, tag = "5")]
    Keep(KeepPod),
}

#[derive(Clone, PartialEq, Message)]
pub struct AddPod {
    #[prost(string, tag = "1")]
    pub uid: String,
    #[prost(message, optional, tag = "2")]
    pub info: Option<PodInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PodInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(string, tag = "3")]
    pub service_account: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeepPod {
    #[prost(string, tag = "1")]
    pub uid: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct DeletePod {
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(bool, tag = "100")]
    pub drain: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct PodResponse {
    #[prost(message, optional, tag = "1")]
    ack: Option<Ack>,
}

#[derive(Clone, PartialEq, Message)]
struct Ack {
    #[prost(string, tag = "1")]
    error: String,
}

/// A `WorkloadResponse`; empty: done.
pub fn pod_answer(error: String) -> Vec<u8> {
    PodResponse { ack: Some(Ack { error }) }.encode_to_vec()
}
