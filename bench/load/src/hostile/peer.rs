//! A client that is authenticated and says whatever it is told to: TLS 1.3 with a right certificate, then any bytes.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use super::frames::{self, Frame};
use super::tally::{Budget, Tally};
use crate::Failure;

/// For a connection, a handshake, and for a tunnel that does not take what is sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom to attack, as whom, how much and how long.
pub struct Target {
    /// Of the tunnel.
    pub addr: SocketAddr,
    pub tls: Arc<ClientConfig>,
    pub budget: Arc<Budget>,
    pub until: Instant,
    pub tally: Tally,
}

impl Target {
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// A port of the pod's applications.
    pub fn authority(&self, port: u16) -> String {
        SocketAddr::new(self.addr.ip(), port).to_string()
    }
}

/// Why a tunnel is over.
#[derive(Debug)]
pub enum End {
    /// The attack is.
    Over,
    Unreachable(ErrorKind),
    Goaway(u32),
    /// A TLS failure: the alert that came, or what TLS does not understand.
    Tls(String),
    Closed,
    Reset,
    /// The tunnel has not taken what was sent for 10 s.
    Stalled,
}

impl End {
    /// Its name among the counts.
    pub fn name(&self) -> String {
        match self {
            End::Over => "over".into(),
            End::Unreachable(kind) => format!("unreachable {kind}"),
            End::Goaway(code) => format!("goaway {code}"),
            End::Tls(what) => format!("tls {what}"),
            End::Closed => "closed".into(),
            End::Reset => "reset".into(),
            End::Stalled => "stalled".into(),
        }
    }
}

fn end_of(error: &std::io::Error) -> End {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => End::Reset,
        kind => End::Unreachable(kind),
    }
}

fn tls_end(error: &rustls::Error) -> End {
    let text = match error {
        rustls::Error::AlertReceived(alert) => format!("alert {alert:?}"),
        other => other.to_string(),
    };
    End::Tls(text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == ' ').collect())
}

/// How the other side has answered so far.
#[derive(Default)]
pub struct Heard {
    pub statuses: BTreeMap<String, u64>,
    pub resets: BTreeMap<u32, u64>,
    pub pings: u64,
    pub data: u64,
    pub goaway: Option<u32>,
    /// The window that it gives a new stream.
    pub window: u32,
    rest: Vec<u8>,
}

impl Heard {
    fn take(&mut self, answers: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.rest);
        let used = frames::each(&rest, |frame| self.one(&frame, answers));
        self.rest = rest;
        self.rest.drain(..used);
    }

    fn one(&mut self, frame: &Frame, answers: &mut Vec<u8>) {
        match frame.kind {
            frames::DATA => self.data += frame.body.len() as u64,
            frames::HEADERS => *self.statuses.entry(frame.status().to_owned()).or_default() += 1,
            frames::RST_STREAM => *self.resets.entry(frame.number(0)).or_default() += 1,
            frames::GOAWAY => self.goaway = Some(frame.number(4)),
            frames::SETTINGS if frame.flags & frames::ACK == 0 => {
                for pair in frame.body.chunks_exact(6) {
                    if u16::from_be_bytes([pair[0], pair[1]]) == frames::INITIAL_WINDOW_SIZE {
                        self.window = u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
                    }
                }
                frames::frame(answers, frames::SETTINGS, frames::ACK, 0, &[]);
            }
            frames::PING if frame.flags & frames::ACK == 0 => {
                frames::frame(answers, frames::PING, frames::ACK, 0, frame.body);
            }
            frames::PING => self.pings += 1,
            _ => {}
        }
    }
}

pub struct Peer<'a> {
    target: &'a Target,
    sock: TcpStream,
    tls: ClientConnection,
    pub heard: Heard,
    /// It reads nothing any more.
    pub deaf: bool,
}

impl<'a> Peer<'a> {
    /// A tunnel, behind the handshake and a greeting with these settings.
    pub fn open(target: &'a Target, settings: &[(u16, u32)]) -> Result<Self, End> {
        let mut peer = Self::shake(target)?;
        let mut greeting = frames::PREFACE.to_vec();
        frames::settings(&mut greeting, settings);
        frames::window(&mut greeting, 0, (1 << 31) - 1 - 65_535);
        peer.send(&greeting)?;
        Ok(peer)
    }

    /// A tunnel behind its TLS handshake.
    pub fn shake(target: &'a Target) -> Result<Self, End> {
        let mut sock = connect(target.addr)?;
        let name = ServerName::IpAddress(target.addr.ip().into());
        let mut tls = ClientConnection::new(target.tls.clone(), name).map_err(|error| tls_end(&error))?;
        tls.set_buffer_limit(None);
        while tls.is_handshaking() {
            if let Err(error) = tls.complete_io(&mut sock) {
                let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                return Err(tls.map_or_else(|| end_of(&error), tls_end));
            }
        }
        sock.set_nonblocking(true).map_err(|error| end_of(&error))?;
        target.tally.count("tunnels");
        let heard = Heard { window: 65_535, ..Heard::default() };
        Ok(Peer { target, sock, tls, heard, deaf: false })
    }

    /// Sends `plain`, whole frames, and hears what comes meanwhile.
    pub fn send(&mut self, plain: &[u8]) -> Result<(), End> {
        if self.target.is_over() {
            return Err(End::Over);
        }
        self.target.budget.take(plain.len());
        self.tls.writer().write_all(plain).map_err(|error| end_of(&error))?;
        self.flush()
    }

    /// A TLS KeyUpdate that asks for another one, and `plain` under the new key.
    pub fn send_with_new_key(&mut self, plain: &[u8]) -> Result<(), End> {
        self.tls.refresh_traffic_keys().map_err(|error| tls_end(&error))?;
        self.tls.writer().write_all(plain).map_err(|error| end_of(&error))
    }

    /// Bytes that are in no record.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.target.budget.take(bytes.len());
        let _ = self.sock.write(bytes).map_err(|error| end_of(&error))?;
        Ok(())
    }

    /// Hears what comes within `wait`, or until the attack is over.
    pub fn hear(&mut self, wait: Duration) -> Result<(), End> {
        let until = (Instant::now() + wait).min(self.target.until);
        loop {
            self.flush()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return if self.target.is_over() { Err(End::Over) } else { Ok(()) };
            }
            self.wait(left, false)?;
        }
    }

    /// Hears until `done`; `Stalled` when that takes too long.
    pub fn hear_until(&mut self, done: impl Fn(&Heard) -> bool) -> Result<(), End> {
        let begun = Instant::now();
        loop {
            self.flush()?;
            if done(&self.heard) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(End::Stalled);
            }
            self.wait(Duration::from_millis(100), false)?;
        }
    }

    /// Writes what TLS has to say, reading what comes in between.
    pub fn flush(&mut self) -> Result<(), End> {
        let begun = Instant::now();
        loop {
            self.read()?;
            if !self.tls.wants_write() {
                return Ok(());
            }
            match self.tls.write_tls(&mut self.sock) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.target.is_over() {
                        return Err(End::Over);
                    }
                    if begun.elapsed() > PATIENCE {
                        return Err(End::Stalled);
                    }
                    self.wait(Duration::from_millis(100), true)?;
                }
                Err(error) => return Err(self.last_words().unwrap_or_else(|| end_of(&error))),
            }
        }
    }

    fn wait(&self, time: Duration, writable: bool) -> Result<(), End> {
        let mut flags = if self.deaf { PollFlags::empty() } else { PollFlags::IN };
        if writable {
            flags |= PollFlags::OUT;
        }
        let mut fds = [PollFd::from_borrowed_fd(self.sock.as_fd(), flags)];
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        poll(&mut fds, Some(&time)).map(drop).map_err(|error| end_of(&error.into()))
    }

    fn read(&mut self) -> Result<(), End> {
        while !self.deaf {
            match self.tls.read_tls(&mut self.sock) {
                Ok(0) => return Err(self.said_goodbye().unwrap_or(End::Closed)),
                Ok(_) => self.open_records()?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(self.said_goodbye().unwrap_or_else(|| end_of(&error))),
            }
        }
        Ok(())
    }

    fn open_records(&mut self) -> Result<(), End> {
        let state = self.tls.process_new_packets().map_err(|error| tls_end(&error))?;
        if state.plaintext_bytes_to_read() > 0 {
            let before = self.heard.rest.len();
            self.heard.rest.resize(before + state.plaintext_bytes_to_read(), 0);
            let got = self.tls.reader().read(&mut self.heard.rest[before..]).map_err(|error| end_of(&error))?;
            self.heard.rest.truncate(before + got);
            let mut answers = Vec::new();
            self.heard.take(&mut answers);
            self.tls.writer().write_all(&answers).map_err(|error| end_of(&error))?;
        }
        Ok(())
    }

    fn said_goodbye(&self) -> Option<End> {
        self.heard.goaway.map(End::Goaway)
    }

    /// After a failure to write: what the other side has said before.
    fn last_words(&mut self) -> Option<End> {
        self.deaf = false;
        self.read().err()
    }
}

impl Drop for Peer<'_> {
    fn drop(&mut self) {
        let Heard { statuses, resets, pings, data, .. } = &self.heard;
        let tally = &self.target.tally;
        statuses.iter().for_each(|(status, times)| tally.add(&format!("status {status}"), *times));
        resets.iter().for_each(|(code, times)| tally.add(&format!("stream reset {code}"), *times));
        tally.add("pings answered", *pings);
        tally.add("bytes heard", *data);
    }
}

pub fn connect(addr: SocketAddr) -> Result<TcpStream, End> {
    let sock = TcpStream::connect_timeout(&addr, PATIENCE).map_err(|error| end_of(&error))?;
    for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        set(&sock, Some(PATIENCE)).map_err(|error| end_of(&error))?;
    }
    sock.set_nodelay(true).map_err(|error| end_of(&error))?;
    Ok(sock)
}

/// TLS 1.3 with a certificate of one's own (PEM files), which believes any server.
pub fn client_config(chain: &Path, key: &Path) -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Whoever is attacked need not prove who it is.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer,
        _: &[CertificateDer],
        _: &ServerName,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
