//! Handshake messages behind the handshake (RFC 8446 section 4.6): put together where records divide them, and taken
//! apart where one record has several. Of a session ticket nothing is kept.
use super::Broken;
use crate::tls::alert;

const NEW_SESSION_TICKET: u8 = 4;
const UPDATE: u8 = 24;
/// Type and length.
const HEAD: usize = 4;
/// The longest ticket there can be: every field of RFC 8446 section 4.6.1 at its longest.
const TICKET_MAX: usize = 4 + 4 + (1 + 0xff) + (2 + 0xffff) + (2 + 0xfffe);
/// Ours: update_not_requested.
pub const KEY_UPDATE: [u8; 5] = [UPDATE, 0, 0, 1, 0];

#[derive(Debug, PartialEq)]
pub enum Message {
    Ticket,
    KeyUpdate {
        /// The peer wants one as well.
        requested: bool,
    },
}

/// A message of which a part has come.
#[derive(Default)]
pub struct Reassembly {
    /// Its head, and of a KeyUpdate what follows.
    kept: Vec<u8>,
    /// Bytes that are still to come, once the head is there.
    missing: usize,
}

impl Reassembly {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The messages that are complete with the handshake bytes of one record.
    pub fn read(&mut self, mut record: &[u8]) -> Result<Vec<Message>, Broken> {
        if record.is_empty() {
            return Err(Broken::Violation(alert::UNEXPECTED_MESSAGE, "a TLS handshake record with nothing in it"));
        }
        let mut messages = vec![];
        while !record.is_empty() {
            let wanted = if self.kept.len() < HEAD { HEAD - self.kept.len() } else { self.missing };
            let (part, rest) = record.split_at(wanted.min(record.len()));
            record = rest;
            let Some(message) = self.take(part)? else { continue };
            if matches!(message, Message::KeyUpdate { .. }) && !record.is_empty() {
                let what = "a TLS key update that does not end its record";
                return Err(Broken::Violation(alert::UNEXPECTED_MESSAGE, what)); // RFC 8446 section 5.1
            }
            messages.push(message);
        }
        Ok(messages)
    }

    /// The next part of a message; what it is when it is complete.
    fn take(&mut self, part: &[u8]) -> Result<Option<Message>, Broken> {
        if self.kept.len() < HEAD {
            self.kept.extend_from_slice(part);
            let &[kind, a, b, c] = &self.kept[..] else { return Ok(None) };
            self.missing = check(kind, u32::from_be_bytes([0, a, b, c]) as usize)?;
        } else {
            self.missing -= part.len();
            if self.kept[0] == UPDATE {
                self.kept.extend_from_slice(part);
            }
        }
        if self.missing > 0 {
            return Ok(None);
        }
        match *std::mem::take(&mut self.kept) {
            [UPDATE, .., requested @ 0..=1] => Ok(Some(Message::KeyUpdate { requested: requested == 1 })),
            [UPDATE, ..] => Err(Broken::Violation(alert::ILLEGAL_PARAMETER, "a TLS key update of a wrong kind")),
            _ => Ok(Some(Message::Ticket)),
        }
    }
}

/// Whether there may be a message of that kind and length; gives the length.
fn check(kind: u8, len: usize) -> Result<usize, Broken> {
    match (kind, len) {
        (NEW_SESSION_TICKET, 1..=TICKET_MAX) | (UPDATE, 1) => Ok(len),
        (NEW_SESSION_TICKET | UPDATE, _) => {
            Err(Broken::Violation(alert::DECODE_ERROR, "a TLS handshake message of a wrong length"))
        }
        _ => Err(Broken::Violation(alert::UNEXPECTED_MESSAGE, "a TLS handshake message of a wrong kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_ticket_that_has_begun_its_head_is_kept() {
        let mut begun = Reassembly::default();
        assert_eq!(begun.read(&[&[NEW_SESSION_TICKET, 1, 0, 0][..], &[7; 9000]].concat()).unwrap(), []);
        assert_eq!(begun.kept.len(), HEAD);
    }
}
