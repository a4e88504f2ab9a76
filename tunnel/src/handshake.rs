//! TLS 1.3's handshake with rustls' unbuffered API: the caller owns every buffer. After it `records.rs` takes over.
use crate::buffer::Out;
use crate::credentials::{self, Credentials};
use crate::frame::Violation;
use crate::mesh::Identity;
use crate::records::{Records, PLAIN_MAX};
use crate::refusal::Refusal;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CertificateError, Error};
use std::{fmt, io, sync::Arc};

pub enum Handshake {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// How far the handshake came with the bytes that were there.
pub struct Progress {
    /// Bytes of ciphertext that are done with.
    pub used: usize,
    /// The peer is who it should be, and may be written to.
    pub complete: bool,
}

/// Why there is no tunnel: a name for the counters, and what TLS says of it for the log.
#[derive(Clone, Debug)]
pub struct Failure {
    pub refusal: Refusal,
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure { refusal: Refusal::TunnelLost, detail: error.to_string() }
    }
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Failure { refusal: Refusal::H2Handshake, detail: violation.to_string() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let refusal = match &error {
            Error::NoCertificatesPresented => Refusal::NoCertificate,
            Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                Refusal::CertificateExpired
            }
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                Refusal::UntrustedCertificate
            }
            Error::InvalidCertificate(CertificateError::Other(other)) => {
                credentials::refusal_of(other).unwrap_or(Refusal::TlsFailure)
            }
            _ => Refusal::TlsFailure,
        };
        Failure { refusal, detail: error.to_string() }
    }
}

impl Handshake {
    /// To a peer that must be one of `expected`.
    pub fn client(credentials: &Credentials, expected: &Arc<[Identity]>) -> Result<Self, Failure> {
        // No SNI is sent and the verifier compares the SPIFFE name: this one is a placeholder.
        let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0, 0, 0, 0])));
        Ok(Handshake::Client(UnbufferedClientConnection::new(credentials.client(expected)?, name)?))
    }

    pub fn server(credentials: &Credentials) -> Result<Self, Failure> {
        Ok(Handshake::Server(UnbufferedServerConnection::new(credentials.server.clone())?))
    }

    /// Reads all complete messages of `input`; what the peer sent behind them goes to `plain`, answers go to `out`, also
    /// the alert that tells the peer of a failure.
    pub fn advance(&mut self, input: &mut [u8], plain: &mut Vec<u8>, out: &mut Out) -> Result<Progress, Failure> {
        let result = match self {
            Handshake::Client(c) => advance(c, input, plain, out),
            Handshake::Server(c) => advance(c, input, plain, out),
        };
        result.map_err(|error| {
            let alert = match self {
                Handshake::Client(c) => advance(c, &mut [], plain, out),
                Handshake::Server(c) => advance(c, &mut [], plain, out),
            };
            drop(alert); // says the same error once more
            error.into()
        })
    }

    /// The peer's identity: the first SPIFFE name of its certificate in this trust domain, one that the verifier has seen.
    pub fn peer(&self, trust_domain: &str) -> Option<Identity> {
        let certificates = match self {
            Handshake::Client(c) => c.peer_certificates(),
            Handshake::Server(c) => c.peer_certificates(),
        };
        credentials::spiffe_names(certificates?.first()?).into_iter().find(|name| *name.trust_domain == *trust_domain)
    }

    /// Only when the handshake is complete.
    pub fn into_records(self) -> Result<Records, Failure> {
        Ok(match self {
            Handshake::Client(c) => Records::client(c),
            Handshake::Server(c) => Records::server(c),
        }?)
    }
}

/// What rustls' two kinds of connection have in common, but not as a trait.
trait Unbuffered {
    type Data;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Unbuffered for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

impl Unbuffered for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

fn advance(
    connection: &mut impl Unbuffered,
    input: &mut [u8],
    plain: &mut Vec<u8>,
    out: &mut Out,
) -> Result<Progress, Error> {
    let mut progress = Progress { used: 0, complete: false };
    loop {
        let UnbufferedStatus { mut discard, state } = connection.process(&mut input[progress.used..]);
        let mut more = true;
        match state? {
            ConnectionState::ReadTraffic(mut records) => {
                while let Some(record) = records.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
            }
            ConnectionState::EncodeTlsData(mut message) => {
                let n = match message.encode(out.room(PLAIN_MAX)) {
                    Err(EncodeError::InsufficientSize(e)) => message.encode(out.room(e.required_size)),
                    result => result,
                };
                out.advance(n.map_err(|e| Error::General(e.to_string()))?);
            }
            ConnectionState::TransmitTlsData(sent) => sent.done(),
            ConnectionState::WriteTraffic(_) => {
                progress.complete = true;
                more = false;
            }
            _ => more = false,
        }
        progress.used += discard;
        if !more {
            return Ok(progress);
        }
    }
}
