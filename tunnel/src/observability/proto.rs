//! The messages of `protocols/telemetry.proto`, which documents them. Written down here so that a build needs no `protoc`.

use std::collections::HashMap;

/// Type URL of [`Telemetry`].
pub const TELEMETRY: &str = "type.googleapis.com/warren.telemetry.Telemetry";

#[derive(Clone, PartialEq, prost::Message)]
pub struct Telemetry {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub client: Option<Side>,
    #[prost(message, optional, tag = "3")]
    pub server: Option<Side>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Side {
    #[prost(message, repeated, tag = "1")]
    pub metrics: Vec<Metric>,
    #[prost(message, optional, tag = "2")]
    pub access_logging: Option<AccessLogging>,
    #[prost(message, optional, tag = "3")]
    pub tracing: Option<Tracing>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Metric {
    #[prost(enumeration = "MetricName", tag = "1")]
    pub name: i32,
    #[prost(bool, tag = "2")]
    pub disabled: bool,
    #[prost(map = "string, message", tag = "3")]
    pub tags: HashMap<String, Expression>,
    #[prost(string, repeated, tag = "4")]
    pub removed: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MetricName {
    Unspecified = 0,
    RequestCount = 1,
    RequestDuration = 2,
    RequestSize = 3,
    ResponseSize = 4,
    TcpOpenedConnections = 5,
    TcpClosedConnections = 6,
    TcpSentBytes = 7,
    TcpReceivedBytes = 8,
    GrpcRequestMessages = 9,
    GrpcResponseMessages = 10,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AccessLogging {
    #[prost(message, repeated, tag = "1")]
    pub logs: Vec<Log>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Log {
    #[prost(message, optional, tag = "1")]
    pub provider: Option<Provider>,
    #[prost(message, optional, tag = "2")]
    pub filter: Option<Expression>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Tracing {
    #[prost(message, repeated, tag = "1")]
    pub providers: Vec<Provider>,
    #[prost(double, tag = "2")]
    pub sampling: f64,
    #[prost(map = "string, message", tag = "3")]
    pub custom_tags: HashMap<String, CustomTag>,
    #[prost(bool, tag = "4")]
    pub disable_span_reporting: bool,
    #[prost(bool, tag = "5")]
    pub use_request_id_for_trace_sampling: bool,
    #[prost(bool, tag = "6")]
    pub enable_istio_tags: bool,
    #[prost(bool, tag = "7")]
    pub disable_context_propagation: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CustomTag {
    #[prost(string, tag = "1")]
    pub literal: String,
    #[prost(string, tag = "2")]
    pub environment: String,
    #[prost(string, tag = "3")]
    pub header: String,
    #[prost(string, tag = "4")]
    pub default_value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Provider {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(enumeration = "ProviderKind", tag = "2")]
    pub kind: i32,
    #[prost(string, tag = "3")]
    pub path: String,
    #[prost(string, tag = "4")]
    pub service: String,
    #[prost(uint32, tag = "5")]
    pub port: u32,
    #[prost(bool, tag = "6")]
    pub http: bool,
    #[prost(string, tag = "7")]
    pub http_path: String,
    #[prost(map = "string, string", tag = "8")]
    pub headers: HashMap<String, String>,
    #[prost(uint32, tag = "9")]
    pub timeout: u32,
    #[prost(uint32, tag = "10")]
    pub max_tag_length: u32,
    #[prost(string, tag = "11")]
    pub log_name: String,
    #[prost(string, tag = "12")]
    pub text_format: String,
    #[prost(map = "string, string", tag = "13")]
    pub labels: HashMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ProviderKind {
    Unknown = 0,
    File = 1,
    Opentelemetry = 2,
    Zipkin = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Expression {
    #[prost(enumeration = "Operator", tag = "1")]
    pub operator: i32,
    #[prost(message, repeated, tag = "2")]
    pub operands: Vec<Expression>,
    #[prost(string, tag = "3")]
    pub text: String,
    #[prost(double, tag = "4")]
    pub number: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Operator {
    Nothing = 0,
    Text = 1,
    Number = 2,
    True = 3,
    False = 4,
    Attribute = 5,
    Entry = 6,
    Or = 7,
    And = 8,
    Not = 9,
    Equal = 10,
    NotEqual = 11,
    Less = 12,
    LessOrEqual = 13,
    Greater = 14,
    GreaterOrEqual = 15,
    Condition = 16,
    Contains = 17,
    StartsWith = 18,
    EndsWith = 19,
    Matches = 20,
    Add = 21,
    In = 22,
    Has = 23,
    String = 24,
    Int = 25,
    Size = 26,
}

#[cfg(test)]
mod tests {
    use crate::config::proto::tests::assert_same;

    #[test]
    fn fields_and_numbers_are_those_of_the_proto_file() {
        let others = [("MetricName", "Name"), ("ProviderKind", "Kind")];
        assert_same(&["telemetry.proto"], include_str!("proto.rs"), &others);
    }
}
