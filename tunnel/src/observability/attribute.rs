//! What an expression may ask for: Envoy's attributes of requests and connections, and Istio's of their ends.

use std::borrow::Cow;

/// A value of an attribute, or of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// There is none: an attribute of requests where there is no request, a header that was not sent.
    Missing,
    Text(Cow<'a, str>),
    Number(f64),
    Truth(bool),
}

impl<'a> Value<'a> {
    /// `Missing` where it is empty.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Value<'a> {
        let text = text.into();
        if text.is_empty() {
            Value::Missing
        } else {
            Value::Text(text)
        }
    }

    pub fn is_missing(&self) -> bool {
        *self == Value::Missing
    }

    pub fn is_true(&self) -> bool {
        *self == Value::Truth(true)
    }
}

/// As a label's value has it; empty: there is none.
impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Missing => Ok(()),
            Value::Text(text) => f.write_str(text),
            Value::Number(number) => number.fmt(f),
            Value::Truth(truth) => truth.fmt(f),
        }
    }
}

/// Whoever knows the attributes of a request or of a connection.
pub trait Attributes {
    fn attribute(&self, attribute: Attribute) -> Value<'_>;

    /// By its name in lower case.
    fn request_header(&self, name: &str) -> Value<'_>;
}

impl Attribute {
    /// The request's header whose value it is.
    pub fn header(self) -> Option<&'static str> {
        match self {
            Attribute::RequestId => Some("x-request-id"),
            Attribute::RequestUserAgent => Some("user-agent"),
            Attribute::RequestReferer => Some("referer"),
            _ => None,
        }
    }
}

macro_rules! attributes {
    ($($variant:ident = $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Attribute {
            $($variant,)*
        }

        impl Attribute {
            pub fn named(name: &str) -> Option<Attribute> {
                match name {
                    $($name => Some(Attribute::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

attributes! {
    RequestPath = "request.path",
    RequestUrlPath = "request.url_path",
    RequestQuery = "request.query",
    RequestHost = "request.host",
    RequestMethod = "request.method",
    RequestScheme = "request.scheme",
    RequestProtocol = "request.protocol",
    RequestId = "request.id",
    RequestUserAgent = "request.useragent",
    RequestReferer = "request.referer",
    RequestSize = "request.size",
    RequestTotalSize = "request.total_size",
    RequestDuration = "request.duration",
    ResponseCode = "response.code",
    ResponseFlags = "response.flags",
    ResponseGrpcStatus = "response.grpc_status",
    ResponseSize = "response.size",
    ResponseTotalSize = "response.total_size",
    SourceAddress = "source.address",
    SourcePort = "source.port",
    DestinationAddress = "destination.address",
    DestinationPort = "destination.port",
    ConnectionMtls = "connection.mtls",
    ConnectionServerName = "connection.requested_server_name",
    ConnectionPeer = "connection.uri_san_peer_certificate",
    UpstreamAddress = "upstream.address",
    UpstreamPort = "upstream.port",
    RouteName = "route_name",
    XdsRouteName = "xds.route_name",
    XdsClusterName = "xds.cluster_name",
    UpstreamName = "upstream_peer.name",
    UpstreamNamespace = "upstream_peer.namespace",
    UpstreamWorkload = "upstream_peer.workload",
    UpstreamCluster = "upstream_peer.cluster_id",
    UpstreamApp = "upstream_peer.app",
    UpstreamVersion = "upstream_peer.version",
    UpstreamPrincipal = "upstream_peer.principal",
    UpstreamServiceAccount = "upstream_peer.service_account",
    DownstreamName = "downstream_peer.name",
    DownstreamNamespace = "downstream_peer.namespace",
    DownstreamWorkload = "downstream_peer.workload",
    DownstreamCluster = "downstream_peer.cluster_id",
    DownstreamApp = "downstream_peer.app",
    DownstreamVersion = "downstream_peer.version",
    DownstreamPrincipal = "downstream_peer.principal",
    DownstreamServiceAccount = "downstream_peer.service_account",
}
