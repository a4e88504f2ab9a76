//! TLS 1.3's record layer, in place (RFC 8446, section 5): rustls makes the handshake and the keys, the bytes never move.
//!
//! Applications are read straight into what will be sealed, and written from where it was opened. That saves a sixth of
//! the CPU per byte beside rustls' own records. The price is that KeyUpdate and alerts are handled here.
use crate::buffer::Out;
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{ConnectionTrafficSecrets, Error};
use std::{io, ops::Range};

/// Before the plaintext of a record.
pub const HEAD: usize = 5;
/// Behind it: the content type and the tag.
pub const TAIL: usize = 1 + TAG;
/// The most plaintext that one record carries.
pub const PLAIN_MAX: usize = 16384;
const TAG: usize = 16;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
/// Records per key, well below the limit of AES-GCM (2^24.5, RFC 8446 section 5.5).
const REKEY: u64 = 1 << 23;
/// KeyUpdates that a peer may send in a row without data: each costs a key derivation.
const KEY_UPDATES_MAX: u32 = 32;

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
    key_updates: u32,
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
        Ok(Records { tx: Half::new(tx)?, rx: Half::new(rx)?, keys, key_updates: 0, closed: false })
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
        self.append(ALERT, &[1, 0], out)
    }

    /// Opens all complete records where they are; says where the plaintexts lie and how many bytes are done with.
    ///
    /// Errors: a record that is too long or does not authenticate, an alert other than close_notify, a handshake message
    /// other than KeyUpdate and NewSessionTicket.
    pub fn open(&mut self, input: &mut [u8], parts: &mut Vec<Range<usize>>, out: &mut Out) -> io::Result<usize> {
        let mut at = 0;
        while let Some(&[kind, a, b, c, d]) = input.get(at..at + HEAD) {
            let len = usize::from(u16::from_be_bytes([c, d]));
            if kind != DATA || len > PLAIN_MAX + 256 {
                return Err(io::Error::other("TLS record of a wrong kind or length"));
            }
            let body = at + HEAD;
            let Some(record) = input.get_mut(body..body + len) else { break };
            at = body + len;
            let nonce = self.rx.nonce();
            let plain = self
                .rx
                .key
                .open_in_place(nonce, Aad::from([kind, a, b, c, d]), record)
                .map_err(|_| io::Error::other("TLS record does not authenticate"))?;
            let end = plain.iter().rposition(|&byte| byte != 0).ok_or_else(|| io::Error::other("empty TLS record"))?;
            match plain[end] {
                DATA => {
                    self.key_updates = 0;
                    parts.push(body..body + end);
                }
                ALERT if plain[..end] == [1, 0] => {
                    self.closed = true;
                    break;
                }
                ALERT => return Err(io::Error::other(format!("TLS alert {:?} from the peer", &plain[..end]))),
                HANDSHAKE => {
                    let message = plain[..end].to_vec();
                    self.handshake(&message, out)?;
                }
                _ => return Err(io::Error::other("unexpected TLS record")),
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
        self.append(HANDSHAKE, &[24, 0, 0, 1, 0], out)?; // KeyUpdate, update_not_requested
        let secrets = match &mut self.keys {
            Keys::Client(keys) => keys.update_tx_secret(),
            Keys::Server(keys) => keys.update_tx_secret(),
        };
        self.tx = secrets.and_then(Half::new).map_err(io::Error::other)?;
        Ok(())
    }

    fn handshake(&mut self, message: &[u8], out: &mut Out) -> io::Result<()> {
        match message {
            [4, ..] => Ok(()), // NewSessionTicket: tunnels are not resumed
            [24, 0, 0, 1, wanted @ 0..=1] => {
                self.key_updates += 1;
                if self.key_updates > KEY_UPDATES_MAX {
                    return Err(io::Error::other("too many TLS key updates"));
                }
                let secrets = match &mut self.keys {
                    Keys::Client(keys) => keys.update_rx_secret(),
                    Keys::Server(keys) => keys.update_rx_secret(),
                };
                self.rx = secrets.and_then(Half::new).map_err(io::Error::other)?;
                if *wanted == 1 {
                    self.rekey(out)?;
                }
                Ok(())
            }
            _ => Err(io::Error::other("unexpected TLS handshake message")),
        }
    }
}
