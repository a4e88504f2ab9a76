//! TLS 1.3's handshake with rustls' unbuffered API: the caller owns every buffer. After it the record layer takes over.
use crate::base::sizes::PLAIN_MAX;
use crate::base::{Failure, Identity, Refusal};
use crate::sys::buffer::Out;
use crate::tls::alert;
use crate::tls::credentials::{Credentials, Expected};
use crate::tls::record_layer::{self, Records};
use crate::tls::trust::{self, Proof, Trust};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{CertificateError, Error};
use std::sync::Arc;

pub struct Handshake {
    connection: Connection,
    expected: Expected,
    trust: Arc<Trust>,
    /// Where the first record that was not complete begins, in what the caller keeps of the input.
    complete: usize,
}

enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// How far the handshake came with the bytes that were there.
#[derive(Debug)]
pub struct Progress {
    /// Bytes of ciphertext that are done with.
    pub used: usize,
    /// The peer is who it should be, and may be written to. What lies behind `used` is for the record layer.
    pub complete: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let refusal = match &error {
            Error::AlertReceived(alert) => return alert::received((*alert).into(), Refusal::TlsFailure),
            Error::NoCertificatesPresented => Refusal::NoCertificate,
            Error::InvalidCertificate(error) => of_certificate(error),
            _ => Refusal::TlsFailure,
        };
        Failure { refusal, detail: error.to_string() }
    }
}

fn of_certificate(error: &CertificateError) -> Refusal {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, InvalidPurpose, InvalidPurposeContext, NotValidForName,
        NotValidForNameContext, NotValidYet, NotValidYetContext, Other, Revoked, UnknownIssuer,
    };
    match error {
        Expired | ExpiredContext { .. } => Refusal::CertificateExpired,
        NotValidYet | NotValidYetContext { .. } => Refusal::CertificateNotYetValid,
        InvalidPurpose | InvalidPurposeContext { .. } => Refusal::CertificatePurpose,
        NotValidForName | NotValidForNameContext { .. } => Refusal::CertificateName,
        Revoked => Refusal::CertificateRevoked,
        UnknownIssuer | BadSignature => Refusal::UntrustedCertificate,
        Other(other) => trust::refusal_of(other).unwrap_or(Refusal::TlsFailure),
        _ => Refusal::TlsFailure,
    }
}

impl Handshake {
    /// To a peer that must be one of `expected`.
    pub fn client(credentials: &Credentials, expected: &Arc<[Identity]>) -> Result<Self, Failure> {
        // No SNI is sent and the verifier compares the SPIFFE name: this one is a placeholder.
        let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0, 0, 0, 0])));
        let connection = UnbufferedClientConnection::new(credentials.client(expected)?, name)?;
        Ok(Self::new(Connection::Client(connection), Expected::OneOf(expected.clone()), credentials))
    }

    pub fn server(credentials: &Credentials) -> Result<Self, Failure> {
        let connection = UnbufferedServerConnection::new(credentials.server.clone())?;
        Ok(Self::new(Connection::Server(connection), credentials.clients(), credentials))
    }

    fn new(connection: Connection, expected: Expected, credentials: &Credentials) -> Self {
        Handshake { connection, expected, trust: credentials.trust.clone(), complete: 0 }
    }

    pub fn is_server(&self) -> bool {
        matches!(self.connection, Connection::Server(_))
    }

    /// Reads the complete records of `input`, up to the one that completes the handshake. Answers go to `out`, also the
    /// alert that tells the peer of a failure. What lies behind `used` has to come first in the next call's input.
    pub fn advance(&mut self, input: &mut [u8], out: &mut Out) -> Result<Progress, Failure> {
        let complete = &mut self.complete;
        let advanced = match &mut self.connection {
            Connection::Client(connection) => advance(connection, complete, input, out),
            Connection::Server(connection) => advance(connection, complete, input, out),
        };
        advanced.map_err(|error| {
            let said = match &mut self.connection {
                Connection::Client(connection) => say_why(connection, out),
                Connection::Server(connection) => say_why(connection, out),
            };
            drop(said); // the failure that counts is the first one
            error.into()
        })
    }

    /// Who the peer has proven to be, and by what. Only when the handshake is complete.
    pub fn peer(&self) -> Result<(Identity, Proof), Failure> {
        let certificates = match &self.connection {
            Connection::Client(connection) => connection.peer_certificates(),
            Connection::Server(connection) => connection.peer_certificates(),
        };
        let chain = certificates.unwrap_or_default();
        let leaf = chain.first().ok_or(Error::NoCertificatesPresented)?;
        Ok((self.expected.prove(leaf)?, Proof::new(chain, &self.trust)))
    }

    /// Only when the handshake is complete.
    pub fn into_records(self) -> Result<Records, Failure> {
        Ok(match self.connection {
            Connection::Client(connection) => Records::client(connection),
            Connection::Server(connection) => Records::server(connection),
        }?)
    }
}

/// What rustls' two kinds of connection have in common, but not as a trait.
trait Unbuffered {
    type Data;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn has_more_to_say(&self) -> bool;
}

impl Unbuffered for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn has_more_to_say(&self) -> bool {
        self.wants_write()
    }
}

impl Unbuffered for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn has_more_to_say(&self) -> bool {
        self.wants_write()
    }
}

/// Shows rustls one record more at a time: it would go on reading behind the handshake's end, where it could keep half of
/// a message for itself. `complete` is where the first record begins that is not there as a whole.
fn advance(
    connection: &mut impl Unbuffered,
    complete: &mut usize,
    input: &mut [u8],
    out: &mut Out,
) -> Result<Progress, Error> {
    let (mut used, mut shown) = (0, *complete);
    loop {
        let UnbufferedStatus { discard, state } = connection.process(&mut input[used..shown]);
        used += discard;
        match state? {
            ConnectionState::EncodeTlsData(message) => encode(message, out)?,
            ConnectionState::TransmitTlsData(sent) => sent.done(),
            ConnectionState::WriteTraffic(_) => return Ok(Progress { used, complete: true }),
            ConnectionState::BlockedHandshake => match record_layer::size(&input[*complete..]) {
                Some(size) => {
                    *complete += size;
                    shown = *complete;
                }
                // A part of a record says already whether it may be one.
                None if shown < input.len() => shown = input.len(),
                None => {
                    *complete -= used;
                    return Ok(Progress { used, complete: false });
                }
            },
            _ => return Err(Error::General("the peer left within the handshake".into())),
        }
    }
}

/// The last words after a failure. Only these: rustls remembers where in the input messages are that it has not looked at,
/// and panics when it is asked to go on without them, or asserts that there is one failure only.
fn say_why(connection: &mut impl Unbuffered, out: &mut Out) -> Result<(), Error> {
    while connection.has_more_to_say() {
        match connection.process(&mut []).state? {
            ConnectionState::EncodeTlsData(message) => encode(message, out)?,
            _ => break,
        }
    }
    Ok(())
}

fn encode<D>(mut message: EncodeTlsData<'_, D>, out: &mut Out) -> Result<(), Error> {
    let encoded = match message.encode(out.room(PLAIN_MAX)) {
        Err(EncodeError::InsufficientSize(error)) => message.encode(out.room(error.required_size)),
        result => result,
    };
    out.advance(encoded.map_err(|error| Error::General(error.to_string()))?);
    Ok(())
}

#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used)] // as in tests, which clippy knows only by `cfg(test)` alone
#[cfg_attr(fuzzing, allow(dead_code))]
pub mod testing;
#[cfg(test)]
mod tests;
