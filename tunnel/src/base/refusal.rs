//! Why a connection was refused or cut: the one table of reasons. Logs, metrics and the CLI print the same names.

/// One line of the table.
struct Row {
    name: &'static str,
    flag: Flag,
    status: u16,
    text: &'static str,
}

/// `response_flags` as Istio names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Flag {
    /// `-`: nothing went wrong on the mesh's side.
    Fine,
    Connect,
    TlsFailure,
    H2HandshakeFailure,
    NetworkPolicy,
    IdentityError,
    Deny,
    /// `UH`: no healthy upstream, which is how Istio's BlackHoleCluster refuses.
    BlackHole,
    CertRevoked,
    /// `NR`: no route.
    NoRoute,
    /// `UO`: a limit of the destination is reached.
    Overflow,
}

impl Flag {
    pub const ALL: [Flag; 11] = [
        Flag::Fine,
        Flag::Connect,
        Flag::TlsFailure,
        Flag::H2HandshakeFailure,
        Flag::NetworkPolicy,
        Flag::IdentityError,
        Flag::Deny,
        Flag::BlackHole,
        Flag::CertRevoked,
        Flag::NoRoute,
        Flag::Overflow,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Flag::Fine => "-",
            Flag::Connect => "CONNECT",
            Flag::TlsFailure => "TLS_FAILURE",
            Flag::H2HandshakeFailure => "H2_HANDSHAKE_FAILURE",
            Flag::NetworkPolicy => "NETWORK_POLICY",
            Flag::IdentityError => "IDENTITY_ERROR",
            Flag::Deny => "DENY",
            Flag::BlackHole => "UH",
            Flag::CertRevoked => "CERT_REVOKED",
            Flag::NoRoute => "NR",
            Flag::Overflow => "UO",
        }
    }
}

/// Makes the enum and its table from one list, so that neither can lack a line.
macro_rules! reasons {
    ($($variant:ident $name:literal $flag:ident $status:literal $text:literal;)*) => {
        /// Why a connection was refused or cut.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Refusal {
            $(#[doc = $text] $variant,)*
        }

        impl Refusal {
            /// Every reason there is.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$variant,)*];

            fn row(self) -> &'static Row {
                match self {
                    $(Refusal::$variant => &Row { name: $name, flag: Flag::$flag, status: $status, text: $text },)*
                }
            }
        }
    };
}

// Variant, name, response flag, status of the answer to a CONNECT that has none yet, text.
reasons! {
    MalformedRequest "malformed_request" Fine 400 "the request is malformed";
    MethodNotConnect "method_not_connect" Fine 400 "the request's method is not CONNECT";
    BadAuthority "bad_authority" Fine 400 "the request's authority is not a host and a port";
    AddressMismatch "address_mismatch" Fine 400 "the request is for an address that is not this workload's";
    UnknownWorkload "unknown_workload" Fine 503 "the local workload is not known to the mesh";
    UnknownService "unknown_service" Fine 503 "no service of this name is known";
    UnknownPort "unknown_port" Fine 503 "the service has no such port";
    IllegalPort "illegal_port" Fine 503 "the port is one of the tunnel's own";
    ProxyProtocol "proxy_protocol" Fine 503 "the workload expects PROXY protocol, which this version does not send";
    NoProxyHead "no_proxy_header" Fine 400 "the connection does not begin with a PROXY protocol header, which the gateway expects (gatewayTopology.proxyProtocol)";
    NoEndpoint "no_endpoint" Connect 503 "the service has no healthy endpoint";
    NoAddress "no_address" Connect 503 "the endpoint has no address that can be used";
    UnknownWaypoint "unknown_waypoint" Connect 503 "the waypoint cannot be resolved";
    OtherNetwork "other_network" Connect 503 "the destination is on another network, which this version does not reach";
    NoRoute "no_route" NoRoute 503 "no route of the service takes it to a destination that exists";
    NotDone "policy_not_done" NoRoute 503 "a DestinationRule asks for a tunnel by POST, or for a tunnel of requests, which this version does not do";
    Overflow "overflow" Overflow 503 "as many connections as the DestinationRule allows are open (connectionPool.tcp.maxConnections)";
    TooManyConnections "too_many_connections" Overflow 503 "as many connections as a RateLimitPolicy allows have come or are open";
    NoCredential "no_credential" TlsFailure 503 "the certificate, key or CA that a DestinationRule names cannot be used";
    NotMutual "not_mutual" TlsFailure 503 "the DestinationRule asks for ISTIO_MUTUAL, and the endpoint is not in the mesh";
    ProxyRefused "proxy_refused" Connect 503 "the proxy did not open the tunnel that the DestinationRule asks for";
    NotInRegistry "not_in_registry" BlackHole 503 "destination not in the service registry (outboundTrafficPolicy: REGISTRY_ONLY)";
    NoIdentity "no_identity" IdentityError 503 "there is no valid certificate for the workload's identity";
    ConnectFailed "connect_failed" Connect 503 "the connection could not be made";
    NotSeen "direct_not_seen" Connect 503 "sent to the other pod of this node, which has not seen it: does a network policy or an address translation stand between them? New ones go through the tunnel";
    ConnectTimeout "connect_timeout" Connect 503 "the connection was not made in time";
    TunnelTimeout "tunnel_timeout" NetworkPolicy 503 "the tunnel's port did not answer: a network policy may block it";
    HandshakeTimeout "handshake_timeout" TlsFailure 503 "the TLS handshake was not done in time";
    TlsFailure "tls_failure" TlsFailure 503 "the TLS handshake failed";
    NoCertificate "no_certificate" TlsFailure 503 "the peer sent no certificate";
    CertificateExpired "certificate_expired" TlsFailure 503 "the peer's certificate has expired";
    CertificateNotYetValid "certificate_not_yet_valid" TlsFailure 503 "the peer's certificate is not valid yet: do the nodes' clocks agree?";
    CertificatePurpose "certificate_purpose" TlsFailure 503 "the peer's certificate is not for this use (extended key usage)";
    CertificateName "certificate_name" TlsFailure 503 "the server's certificate is for other names";
    CertificateRevoked "certificate_revoked" CertRevoked 503 "a certificate in the peer's chain has been revoked";
    CrlUnusable "crl_unusable" TlsFailure 503 "no certificate revocation list can be used, and one was asked for (--crl)";
    CertificateRefused "certificate_refused" TlsFailure 503 "the peer refused our certificate";
    UntrustedCertificate "untrusted_certificate" TlsFailure 503 "the peer's certificate is from no root that is trusted";
    PolicyDenied "policy_denied" Deny 401 "explicitly denied by policy";
    PolicyNotAllowed "policy_not_allowed" Deny 401 "allow policies exist, and none of them allows it";
    PolicyUnknown "policy_unknown" Deny 401 "a policy that applies has not arrived or was not understood";
    PolicyChanged "policy_changed" Deny 401 "closed after a change of policy";
    PeerIdentity "peer_identity" IdentityError 503 "the peer's identity is not the expected one";
    PeerTrustDomain "peer_trust_domain" IdentityError 503 "the peer is of another trust domain";
    H2Handshake "h2_handshake" H2HandshakeFailure 503 "HTTP/2 could not be agreed on with the peer";
    PeerBadRequest "peer_bad_request" Connect 503 "the peer answered 400: not its address";
    PeerDenied "peer_denied" Connect 503 "the peer answered 401: denied by its policy";
    PeerUnavailable "peer_unavailable" Connect 503 "the peer answered 503: its application could not be reached";
    PeerRefused "peer_refused" Connect 503 "the peer answered with another status than 200";
    StreamViolation "stream_violation" Connect 503 "the peer broke HTTP/2's rules on this stream";
    TooManyStreams "too_many_streams" Connect 503 "the peer has as many streams open in one tunnel as it may";
    TunnelViolation "tunnel_violation" Connect 503 "the peer broke the rules of TLS or HTTP/2, which ended the tunnel";
    TunnelLost "tunnel_lost" Connect 503 "the tunnel broke";
    OutOfMemory "out_of_memory" Connect 503 "too much waits for applications that do not read, or for peers that do not";
    OutOfDescriptors "out_of_descriptors" Connect 503 "the tunnel has no file descriptor left: raise its limit of open files (LimitNOFILE, ulimit -n)";
    PeerReset "peer_reset" Fine 503 "reset by the peer";
    AppReset "app_reset" Fine 503 "reset by the application on this node";
    GivenUp "given_up" Fine 503 "given up by the application before the other end had answered";
    Idle "idle" Fine 503 "closed after the DestinationRule's idleTimeout without a byte";
    TooOld "too_old" Fine 503 "closed after the DestinationRule's maxConnectionDuration";
    Drained "drained" Fine 503 "cut when the tunnel was drained";
    WorkloadGone "workload_gone" Fine 503 "cut when its workload was removed";
    InternalError "internal_error" Connect 503 "a fault of the tunnel itself: its log has a line with `panicked`";
    Abandoned "abandoned" Connect 503 "given up without a reason";
}

impl Refusal {
    /// The name in logs, metrics and the CLI.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    pub fn flag(self) -> Flag {
        self.row().flag
    }

    /// The status of the answer to a CONNECT request that ends so.
    pub fn status(self) -> u16 {
        self.row().status
    }

    /// Whether it is about who one of the two ends of a tunnel is, or how they speak TLS.
    pub fn is_of_handshake(self) -> bool {
        matches!(self.flag(), Flag::TlsFailure | Flag::IdentityError | Flag::CertRevoked)
    }

    /// Whether another endpoint may do better: this one was not reached, or is not who it should be.
    pub fn is_of_endpoint(self) -> bool {
        let ours = matches!(
            self,
            Refusal::OutOfMemory | Refusal::OutOfDescriptors | Refusal::InternalError | Refusal::NoCredential
        );
        let unreached = matches!(
            self.flag(),
            Flag::Connect | Flag::NetworkPolicy | Flag::TlsFailure | Flag::H2HandshakeFailure | Flag::CertRevoked
        );
        unreached && !ours && !matches!(self, Refusal::PeerDenied | Refusal::PeerBadRequest)
    }

    /// Whether it cuts what is open, by a decision of ours: nobody can cause as many of these as they like.
    pub fn is_cut(self) -> bool {
        matches!(
            self,
            Refusal::PolicyChanged | Refusal::Drained | Refusal::WorkloadGone | Refusal::Idle | Refusal::TooOld
        )
    }

    /// The reason's text, and more about it where there is more.
    pub fn explain(self, detail: &str) -> String {
        match detail {
            "" => self.to_string(),
            detail => format!("{self}: {detail}"),
        }
    }

    /// What a peer's answer to our CONNECT means.
    pub fn from_status(status: u16) -> Refusal {
        match status {
            400 => Refusal::PeerBadRequest,
            401 => Refusal::PeerDenied,
            503 => Refusal::PeerUnavailable,
            _ => Refusal::PeerRefused,
        }
    }
}

/// Bytes of what a peer says that a failure tells at most.
const QUOTED_MAX: usize = 256;
/// Follows what was cut.
const CUT: char = '…';

/// A peer's text for the detail of a failure: cut at 256 bytes, and without a character that could end a line or a field.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars() {
        let before = quoted.len();
        match c.is_control() {
            true => quoted.extend(c.escape_default()),
            false => quoted.push(c),
        }
        if quoted.len() + CUT.len_utf8() > QUOTED_MAX {
            quoted.truncate(before);
            quoted.push(CUT);
            break;
        }
    }
    quoted
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.row().text)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_names_of_their_own() {
        let names: std::collections::HashSet<_> = Refusal::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
        assert!(Refusal::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        assert!(Flag::ALL.iter().enumerate().all(|(index, flag)| *flag as usize == index));
    }

    #[test]
    fn only_the_requests_own_faults_are_400_and_only_policy_is_401() {
        let bad = [
            Refusal::MalformedRequest,
            Refusal::MethodNotConnect,
            Refusal::BadAuthority,
            Refusal::AddressMismatch,
            Refusal::NoProxyHead,
        ];
        for reason in Refusal::ALL {
            let expected = match reason {
                reason if bad.contains(reason) => 400,
                reason if reason.flag() == Flag::Deny => 401,
                _ => 503,
            };
            assert_eq!(reason.status(), expected, "{reason:?}");
        }
    }

    #[test]
    fn a_peers_status_has_a_name() {
        let names = [400, 401, 503, 502].map(|status| Refusal::from_status(status).name());
        assert_eq!(names, ["peer_bad_request", "peer_denied", "peer_unavailable", "peer_refused"]);
    }

    #[test]
    fn a_peers_text_is_cut_and_escaped() {
        for (text, expected) in [
            ("10.0.0.1:80", "10.0.0.1:80".to_owned()),
            ("a\tb\nc\u{1b}[0m\u{9b}d\0é", "a\\tb\\nc\\u{1b}[0m\\u{9b}d\\u{0}é".to_owned()),
            (&"a".repeat(253), "a".repeat(253)),
            (&"a".repeat(65_536), "a".repeat(253) + "…"),
            (&"é".repeat(200), "é".repeat(126) + "…"),
            (&"\n".repeat(200), "\\n".repeat(126) + "…"),
        ] {
            let quoted = quoted(text);
            assert_eq!(quoted, expected);
            assert!(quoted.len() <= QUOTED_MAX);
        }
    }
}
