//! Messages of DNS (RFC 1035 section 4), as far as a question for addresses needs them. What is not such a question, in whatever
//! respect, is for the server that was asked.

use std::net::IpAddr;

/// Of a header.
const HEADER: usize = 12;
/// The longest name, its length bytes included (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 255;
const LABEL_MAX: usize = 63;
/// What a client takes over UDP that says nothing of it (RFC 1035 section 2.3.4), and what crosses any link whole.
const SMALL: usize = 512;
const LARGE: usize = 1232;
const A: u16 = 1;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const IN: u16 = 1;

/// Bits of the header's second word.
mod flag {
    pub const RESPONSE: u16 = 1 << 15;
    pub const OPCODE: u16 = 0xf << 11;
    pub const RECURSION_DESIRED: u16 = 1 << 8;
    pub const RECURSION_AVAILABLE: u16 = 1 << 7;
    pub const CHECKING_DISABLED: u16 = 1 << 4;
    /// Of EDNS: the client takes signatures (RFC 3225).
    pub const DNSSEC_OK: u16 = 1 << 15;
}

/// A question for the addresses of a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Header and question as they were sent.
    sent: &'a [u8],
    /// In lower case, without the last dot.
    pub name: String,
    v4: bool,
    edns: Option<Edns>,
}

/// What a client says of itself (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edns {
    /// Bytes that it takes over UDP.
    size: u16,
    dnssec_ok: bool,
}

impl<'a> Question<'a> {
    /// None: something else, or malformed.
    pub fn read(message: &'a [u8]) -> Option<Question<'a>> {
        let flags = word(message, 2)?;
        let counts = [word(message, 4)?, word(message, 6)?, word(message, 8)?];
        if flags & (flag::RESPONSE | flag::OPCODE) != 0 || counts != [1, 0, 0] {
            return None;
        }
        let (name, end) = name(message)?;
        let v4 = match word(message, end)? {
            A => true,
            AAAA => false,
            _ => return None,
        };
        if word(message, end + 2)? != IN {
            return None;
        }
        let (sent, rest) = message.split_at(end + 4);
        let edns = match word(message, 10)? {
            0 if rest.is_empty() => None,
            1 => Some(Edns::read(rest)?),
            _ => return None,
        };
        Some(Question { sent, name, v4, edns })
    }

    /// Whether it asks for addresses of that family.
    pub fn is_for(&self, ip: &IpAddr) -> bool {
        ip.is_ipv4() == self.v4
    }

    /// The answer: as many of these addresses as the client takes, for `ttl` seconds. Those of the other family are left out:
    /// then the name has no data of the family that was asked for (RFC 2308 section 2.2).
    pub fn answer(&self, addresses: &[IpAddr], ttl: u32, stream: bool) -> Vec<u8> {
        let most = match self.edns {
            _ if stream => usize::from(u16::MAX),
            Some(edns) => usize::from(edns.size).clamp(SMALL, LARGE),
            None => SMALL,
        };
        let record = if self.v4 { 16 } else { 28 };
        let room = most.saturating_sub(self.sent.len() + Edns::LENGTH) / record;
        let told: Vec<_> = addresses.iter().filter(|ip| self.is_for(ip)).take(room).collect();

        let mut answer = self.sent.to_vec();
        let asked = word(self.sent, 2).unwrap_or_default() & (flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
        put(&mut answer, 2, flag::RESPONSE | flag::RECURSION_AVAILABLE | asked);
        put(&mut answer, 6, told.len() as u16);
        put(&mut answer, 10, u16::from(self.edns.is_some()));
        for ip in told {
            answer.extend([0xc0, HEADER as u8]); // the name of the question
            answer.extend(if self.v4 { A } else { AAAA }.to_be_bytes());
            answer.extend(IN.to_be_bytes());
            answer.extend(ttl.to_be_bytes());
            match ip {
                IpAddr::V4(ip) => answer.extend([0, 4].into_iter().chain(ip.octets())),
                IpAddr::V6(ip) => answer.extend([0, 16].into_iter().chain(ip.octets())),
            }
        }
        if let Some(edns) = self.edns {
            edns.write(&mut answer);
        }
        answer
    }
}

impl Edns {
    /// Bytes of a record without options.
    const LENGTH: usize = 11;

    /// The only record of the last section. None: it is another one, or of a later version.
    fn read(record: &[u8]) -> Option<Edns> {
        let options = usize::from(word(record, 9)?);
        let whole = record.len() == Edns::LENGTH + options;
        let known = record[0] == 0 && word(record, 1)? == OPT && record[6] == 0;
        let flags = word(record, 7)?;
        (whole && known)
            .then(|| Edns { size: word(record, 3).unwrap_or_default(), dnssec_ok: flags & flag::DNSSEC_OK != 0 })
    }

    fn write(self, answer: &mut Vec<u8>) {
        answer.push(0);
        answer.extend(OPT.to_be_bytes());
        answer.extend((LARGE as u16).to_be_bytes());
        answer.extend([0, 0]); // the code's upper bits, and the version
        answer.extend(if self.dnssec_ok { flag::DNSSEC_OK } else { 0 }.to_be_bytes());
        answer.extend([0, 0]);
    }
}

/// The name behind the header, and where it ends. Of what no hostname has in it (RFC 1123 section 2.1, and `_`) nothing is read.
fn name(message: &[u8]) -> Option<(String, usize)> {
    let (mut text, mut at) = (String::new(), HEADER);
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return (!text.is_empty()).then_some((text, at));
        }
        if length > LABEL_MAX || at + length >= HEADER + NAME_MAX {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        for byte in message.get(at..at + length)? {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => text.push(byte.to_ascii_lowercase().into()),
                _ => return None,
            }
        }
        at += length;
    }
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

fn put(message: &mut [u8], at: usize, word: u16) {
    message[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

/// What a pod asks, whatever it is: where it is answered, the answer is whole, and to that question.
#[cfg(any(test, fuzzing))]
pub fn questions(input: &[u8]) {
    let Some(question) = Question::read(input) else { return };
    assert!(!question.name.is_empty() && question.name == question.name.to_ascii_lowercase());
    let addresses: Vec<IpAddr> = (0..200u8).map(|number| [240, 240, 0, number].into()).collect();
    for stream in [false, true] {
        let answer = question.answer(&addresses, 30, stream);
        assert!(answer.len() <= if stream { usize::from(u16::MAX) } else { LARGE });
        let end = question.sent.len();
        assert_eq!((&answer[..2], &answer[HEADER..end]), (&input[..2], &input[HEADER..end]));
        let count = |at| usize::from(word(&answer, at).unwrap_or_default());
        assert_eq!(answer.len(), end + count(6) * 16 + count(10) * Edns::LENGTH);
        assert_eq!(Question::read(&answer), None, "an answer is no question");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    const EDNS: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 4, 0, 3, 0, 0];

    /// A question for `Api.Example`, with records behind it.
    fn question(kind: u16, more: &[u8]) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0x20, 0, 1, 0, 0, 0, 0, 0, u8::from(!more.is_empty())];
        message.extend(b"\x03Api\x07Example\x00");
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message.extend(more);
        message
    }

    fn ips() -> Vec<IpAddr> {
        ["240.240.0.7", "2001:2::7"].map(|text| text.parse().unwrap()).into()
    }

    #[test]
    fn a_name_is_read_in_lower_case_and_told_as_it_was_sent() {
        let message = question(A, &[]);
        let question = Question::read(&message).unwrap();
        assert_eq!(question.name, "api.example");
        let answer = question.answer(&ips(), 30, false);
        assert_eq!(answer[..2], [0xab, 0xcd]);
        assert_eq!(answer[2..12], [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(&answer[12..29], &message[12..]);
        assert_eq!(answer[29..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 240, 240, 0, 7]);
    }

    #[test]
    fn the_other_family_is_no_data() {
        let message = question(AAAA, &[]);
        let question = Question::read(&message).unwrap();
        assert_eq!(question.answer(&ips()[..1], 30, false)[2..12], [0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(question.answer(&ips(), 30, false).len(), 29 + 28);
    }

    #[test]
    fn edns_is_echoed_without_its_options() {
        let message = question(A, EDNS);
        let answer = Question::read(&message).unwrap().answer(&ips(), 30, false);
        assert_eq!(answer[10..12], [0, 1]);
        assert_eq!(answer[answer.len() - 11..], [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
    }

    #[test]
    fn no_more_is_told_than_the_client_takes() {
        let many: Vec<IpAddr> = (0..5000u32).map(|number| IpAddr::from((0xf0f0_0000 + number).to_be_bytes())).collect();
        let (small, large) = (question(A, &[]), question(A, EDNS));
        assert_eq!(Question::read(&small).unwrap().answer(&many, 30, false).len(), 29 + 29 * 16);
        assert_eq!(Question::read(&large).unwrap().answer(&many, 30, false).len(), 29 + 74 * 16 + 11);
        assert!(Question::read(&large).unwrap().answer(&many, 30, true).len() <= usize::from(u16::MAX));
    }

    #[test]
    fn whatever_is_asked_is_answered_whole_or_not_at_all() {
        let mut rng = Rng::from_entropy();
        let mut below = |limit: usize| rng.below(limit as u64).unwrap_or_default() as usize;
        for _ in 0..50_000 {
            let mut message = question([A, AAAA, 33][below(3)], if below(2) == 0 { EDNS } else { &[] });
            for _ in 0..below(4) {
                let at = below(message.len());
                message[at] = below(256) as u8;
            }
            message.truncate(message.len() - below(3) * below(message.len()) / 2);
            questions(&message);
        }
    }

    #[test]
    fn all_else_is_for_the_server_that_was_asked() {
        for kind in [5, 12, 15, 16, 33, 41, 64, 65, 255] {
            assert_eq!(Question::read(&question(kind, &[])), None, "type {kind}");
        }
        let whole = question(A, EDNS);
        for end in 0..whole.len() {
            assert_eq!(Question::read(&whole[..end]), None, "{end} bytes");
        }
        // A response, another opcode, two questions, an answer in it, a byte behind the end, another class, a later EDNS.
        let later = [&EDNS[..6], &[1], &EDNS[7..]].concat();
        let changed = |at: usize, byte| {
            let mut message = question(A, &[]);
            message[at] = byte;
            message
        };
        let chaos = question(A, &[]).len() - 1;
        for message in [changed(2, 0x81), changed(2, 0x29), changed(5, 2), changed(7, 1), changed(chaos, 3)] {
            assert_eq!(Question::read(&message), None);
        }
        assert_eq!(Question::read(&[question(A, &[]), vec![0]].concat()), None);
        assert_eq!(Question::read(&question(A, &later)), None);
        // A pointer, a byte that no name has in it, a label that is too long, the root.
        for name in [&b"\xc0\x0c"[..], b"\x03a.b\0", b"\x03a\0b\0", b"\0"] {
            let message = [&question(A, &[])[..12], name, &[0, 1, 0, 1]].concat();
            assert_eq!(Question::read(&message), None);
        }
        let label = [&[63][..], &[b'a'; 63]].concat();
        let long = |labels: usize| [&question(A, &[])[..12], &label.repeat(labels), &[0, 0, 1, 0, 1]].concat();
        assert!(Question::read(&long(3)).is_some());
        assert_eq!(Question::read(&long(4)), None);
    }
}
