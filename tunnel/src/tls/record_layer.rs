//! TLS 1.3's record layer, in place (RFC 8446, section 5): rustls makes the handshake and the keys, the bytes never move.
//!
//! Applications are read straight into what will be sealed, and written from where it was opened. That saves a sixth of
//! the CPU per byte beside rustls' own records. The price is that KeyUpdate and alerts are handled here.
use crate::base::sizes::PLAIN_MAX;
use crate::base::{Failure, Refusal};
use crate::sys::buffer::Out;
use crate::tls::alert;
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use post_handshake::{Message, Reassembly};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{ConnectionTrafficSecrets, Error};
use std::{io, ops::Range};

mod post_handshake;

/// Before the plaintext of a record.
pub const HEAD: usize = 5;
/// Behind it: the content type and the tag.
pub const TAIL: usize = 1 + TAG;
const TAG: usize = 16;
/// The most that a record carries when it is sealed, with padding (RFC 8446 section 5.2).
const SEALED_MAX: usize = PLAIN_MAX + 256;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const WARNING: u8 = 1;
const FATAL: u8 = 2;
/// Records per key, well below the limit of AES-GCM (2^24.5, RFC 8446 section 5.5).
const REKEY: u64 = 1 << 23;
/// KeyUpdates that a peer may send beyond one for so many records: each costs us two key derivations and an answer.
const KEY_UPDATES_MAX: u64 = 32;
const RECORDS_PER_KEY_UPDATE: u64 = 256;

/// Why no more can be opened.
#[derive(Debug)]
enum Broken {
    /// The alert that tells the peer what it did wrong, and what that was.
    Violation(u8, &'static str),
    /// The alert of the peer's.
    Alert(u8),
}

struct Half {
    key: LessSafeKey,
    iv: [u8; 12],
    seq: u64,
}

impl Half {
    fn new((seq, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            _ => return Err(Error::General("a cipher that was not offered".into())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Error::General("traffic key".into()))?;
        let iv = iv.as_ref().try_into().map_err(|_| Error::General("traffic iv".into()))?;
        Ok(Half { key: LessSafeKey::new(key), iv, seq })
    }

    /// RFC 8446 section 5.3.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (n, s) in nonce[4..].iter_mut().zip(self.seq.to_be_bytes()) {
            *n ^= s;
        }
        self.seq += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

enum Keys {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

pub struct Records {
    tx: Half,
    rx: Half,
    keys: Keys,
    /// What has come of a handshake message that is not complete.
    begun: Reassembly,
    /// KeyUpdates of the peer that no records have paid for.
    key_updates: u64,
    /// The peer has said that it sends no more (close_notify).
    pub closed: bool,
}

impl Records {
    pub fn client(connection: UnbufferedClientConnection) -> Result<Self, Error> {
        let (secrets, keys) = connection.dangerous_into_kernel_connection()?;
        Self::new(secrets.tx, secrets.rx, Keys::Client(keys))
    }

    pub fn server(connection: UnbufferedServerConnection) -> Result<Self, Error> {
        let (secrets, keys) = connection.dangerous_into_kernel_connection()?;
        Self::new(secrets.tx, secrets.rx, Keys::Server(keys))
    }

    fn new(
        tx: (u64, ConnectionTrafficSecrets),
        rx: (u64, ConnectionTrafficSecrets),
        keys: Keys,
    ) -> Result<Self, Error> {
        let begun = Reassembly::default();
        Ok(Records { tx: Half::new(tx)?, rx: Half::new(rx)?, keys, begun, key_updates: 0, closed: false })
    }

    /// Seals a record whose plaintext lies behind `HEAD` unused bytes and before `TAIL` unused ones.
    pub fn seal_in_place(&mut self, record: &mut [u8]) -> io::Result<()> {
        self.seal_as(DATA, record)
    }

    /// Appends `plain`, as one or more records.
    pub fn seal(&mut self, plain: &[u8], out: &mut Out) -> io::Result<()> {
        for chunk in plain.chunks(PLAIN_MAX) {
            self.append(DATA, chunk, out)?;
        }
        self.renew(out)
    }

    /// New keys before the old ones have sealed too much. Called after sealing in place.
    pub fn renew(&mut self, out: &mut Out) -> io::Result<()> {
        if self.tx.seq > REKEY {
            self.rekey(out)?;
        }
        Ok(())
    }

    /// Says that nothing follows.
    pub fn close(&mut self, out: &mut Out) -> io::Result<()> {
        self.append(ALERT, &[WARNING, alert::CLOSE_NOTIFY], out)
    }

    /// Tells the peer why the tunnel ends now.
    pub fn fail(&mut self, alert: u8, out: &mut Out) -> io::Result<()> {
        self.append(ALERT, &[FATAL, alert], out)
    }

    /// Opens all complete records where they are; says where the plaintexts lie and how many bytes are done with.
    ///
    /// Fails with an alert of the peer's, or with what it violates (RFC 8446 sections 4.6, 5 and 6), which it is told.
    /// What was opened before that counts.
    pub fn open(&mut self, input: &mut [u8], parts: &mut Vec<Range<usize>>, out: &mut Out) -> Result<usize, Failure> {
        self.open_all(input, parts, out).map_err(|broken| match broken {
            Broken::Alert(alert) => alert::received(alert, Refusal::TunnelLost),
            Broken::Violation(alert, what) => {
                let _ = self.fail(alert, out); // it ends in any case
                let detail = format!("{what}: TLS alert {} sent", alert::name(alert));
                Failure { refusal: of_violation(alert), detail }
            }
        })
    }

    fn open_all(&mut self, input: &mut [u8], parts: &mut Vec<Range<usize>>, out: &mut Out) -> Result<usize, Broken> {
        let mut at = 0;
        while let Some(&[kind, a, b, c, d]) = input.get(at..at + HEAD) {
            let len = usize::from(u16::from_be_bytes([c, d]));
            if kind != DATA {
                return Err(Broken::Violation(alert::UNEXPECTED_MESSAGE, "a TLS record that is not encrypted"));
            }
            if len > SEALED_MAX {
                return Err(Broken::Violation(alert::RECORD_OVERFLOW, "a TLS record that is too long"));
            }
            let body = at + HEAD;
            let Some(record) = input.get_mut(body..body + len) else { break };
            at = body + len;
            let nonce = self.rx.nonce();
            let plain = self
                .rx
                .key
                .open_in_place(nonce, Aad::from([kind, a, b, c, d]), record)
                .map_err(|_| Broken::Violation(alert::BAD_RECORD_MAC, "a TLS record that does not authenticate"))?;
            if plain.len() > PLAIN_MAX + 1 {
                return Err(Broken::Violation(alert::RECORD_OVERFLOW, "a TLS record with too much in it"));
            }
            let Some(end) = plain.iter().rposition(|&byte| byte != 0) else {
                return Err(Broken::Violation(alert::UNEXPECTED_MESSAGE, "a TLS record with nothing in it"));
            };
            match plain[end] {
                DATA if self.begun.is_empty() => parts.push(body..body + end),
                HANDSHAKE => {
                    let messages = self.begun.read(&plain[..end])?;
                    self.handshake(&messages, out)?;
                }
                ALERT => match plain[..end] {
                    [_, alert::CLOSE_NOTIFY] => {
                        self.closed = true;
                        break;
                    }
                    [WARNING, alert::USER_CANCELED] => {} // close_notify follows
                    [_, alert] => return Err(Broken::Alert(alert)),
                    _ => return Err(Broken::Violation(alert::DECODE_ERROR, "a TLS alert of a wrong length")),
                },
                _ => return Err(Broken::Violation(alert::UNEXPECTED_MESSAGE, "a TLS record of a wrong kind")),
            }
        }
        Ok(at)
    }

    fn append(&mut self, kind: u8, plain: &[u8], out: &mut Out) -> io::Result<()> {
        let size = HEAD + plain.len() + TAIL;
        let record = out.room(size);
        record[HEAD..HEAD + plain.len()].copy_from_slice(plain);
        self.seal_as(kind, record)?;
        out.advance(size);
        Ok(())
    }

    fn seal_as(&mut self, kind: u8, record: &mut [u8]) -> io::Result<()> {
        let len = record.len() - HEAD;
        let [a, b] = (len as u16).to_be_bytes(); // at most PLAIN_MAX + TAIL
        let head = [DATA, 3, 3, a, b];
        record[..HEAD].copy_from_slice(&head);
        let (body, tag) = record[HEAD..].split_at_mut(len - TAG);
        if let Some(last) = body.last_mut() {
            *last = kind;
        }
        let nonce = self.tx.nonce();
        let sealed = self.tx.key.seal_in_place_separate_tag(nonce, Aad::from(head), body);
        tag.copy_from_slice(sealed.map_err(|_| io::Error::other("sealing a TLS record"))?.as_ref());
        Ok(())
    }

    fn rekey(&mut self, out: &mut Out) -> io::Result<()> {
        self.append(HANDSHAKE, &post_handshake::KEY_UPDATE, out)?;
        let secrets = match &mut self.keys {
            Keys::Client(keys) => keys.update_tx_secret(),
            Keys::Server(keys) => keys.update_tx_secret(),
        };
        self.tx = secrets.and_then(Half::new).map_err(io::Error::other)?;
        Ok(())
    }

    fn handshake(&mut self, messages: &[Message], out: &mut Out) -> Result<(), Broken> {
        for message in messages {
            match (message, &self.keys) {
                (Message::Ticket, Keys::Client(_)) => {} // tunnels are not resumed
                (Message::Ticket, Keys::Server(_)) => {
                    return Err(Broken::Violation(alert::UNEXPECTED_MESSAGE, "a TLS session ticket of a client"));
                }
                (Message::KeyUpdate { requested }, _) => self.key_update(*requested, out)?,
            }
        }
        Ok(())
    }

    fn key_update(&mut self, requested: bool, out: &mut Out) -> Result<(), Broken> {
        self.key_updates = self.key_updates.saturating_sub(self.rx.seq / RECORDS_PER_KEY_UPDATE) + 1;
        if self.key_updates > KEY_UPDATES_MAX {
            return Err(Broken::Violation(alert::UNEXPECTED_MESSAGE, "too many TLS key updates"));
        }
        let no_key = |_| Broken::Violation(alert::INTERNAL_ERROR, "no new TLS keys could be made");
        let secrets = match &mut self.keys {
            Keys::Client(keys) => keys.update_rx_secret(),
            Keys::Server(keys) => keys.update_rx_secret(),
        };
        self.rx = secrets.and_then(Half::new).map_err(no_key)?;
        if requested {
            self.rekey(out).map_err(|_| Broken::Violation(alert::INTERNAL_ERROR, "no new TLS keys could be made"))?;
        }
        Ok(())
    }
}

/// Whose fault it is that a tunnel ends with this alert of ours.
fn of_violation(alert: u8) -> Refusal {
    match alert {
        alert::INTERNAL_ERROR => Refusal::InternalError,
        _ => Refusal::TunnelViolation,
    }
}

/// Of the first record of `input`, with its header; None where it is not there as a whole.
pub fn size(input: &[u8]) -> Option<usize> {
    let &[_, _, _, a, b] = input.get(..HEAD)? else { return None };
    Some(HEAD + usize::from(u16::from_be_bytes([a, b]))).filter(|size| *size <= input.len())
}

#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod tests;
