//! Header blocks of a CONNECT and of its answer (HBONE): HPACK in by `hpack.rs`, out as plain literals.
//!
//! We never use the dynamic table when sending: the values that repeat (baggage) are encoded once and copied, the others
//! never repeat. So a block costs a few copies and no state.
use crate::h2::frame::Violation;
pub use crate::h2::hpack::Decoder;

/// Indices of the static table (RFC 7541 appendix A).
const AUTHORITY: u8 = 1;
const METHOD: u8 = 2;
const STATUS: u8 = 8;
const STATUS_200: u8 = 0x80 | 8;

/// Bytes of an authority that are kept: a longer one is none in any case (a name has 253).
const AUTHORITY_MAX: usize = 512;
/// Bytes of another field that are kept; of a longer one nothing is. A thousand requests of a tunnel may wait for their turn.
const VALUE_MAX: usize = 4 << 10;

/// What a header block is, by where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Trailers,
}

/// The fields that HBONE reads; all others are looked at, and ignored.
#[derive(Debug, Default, PartialEq)]
pub struct Fields {
    pub method: Option<String>,
    pub authority: Option<String>,
    pub status: Option<u16>,
    pub baggage: String,
    pub forwarded: String,
    pub traceparent: String,
    /// Why the message is malformed, where it is (RFC 9113 section 8.1.1).
    pub malformed: Option<&'static str>,
}

/// Reads a block. Each block of a connection must pass here, in order: they share state.
pub fn read(decoder: &mut Decoder, block: &[u8], kind: Kind) -> Result<Fields, Violation> {
    if kind == Kind::Response && block == [STATUS_200] {
        return Ok(Fields { status: Some(200), ..Fields::default() });
    }
    let mut reading = Reading { fields: Fields::default(), kind, pseudo: Pseudo::default(), regular: false };
    decoder.decode(block, |name, value| {
        if let Err(what) = reading.field(name, value) {
            reading.fields.malformed.get_or_insert(what);
        }
    })?;
    Ok(reading.done())
}

/// Pseudo-header fields that have come.
#[derive(Default)]
struct Pseudo {
    method: bool,
    scheme: bool,
    path: bool,
    authority: bool,
    status: bool,
}

struct Reading {
    fields: Fields,
    kind: Kind,
    pseudo: Pseudo,
    /// A field has come that is none of them.
    regular: bool,
}

impl Reading {
    /// Takes a field, or says what is wrong with it (RFC 9113 sections 8.2 and 8.3).
    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        check_value(value)?;
        if let [b':', ..] = name {
            return self.pseudo(name, value);
        }
        check_name(name)?;
        self.regular = true;
        match name {
            b"baggage" => append(&mut self.fields.baggage, value),
            b"forwarded" => self.fields.forwarded = kept(value).into(),
            b"traceparent" => self.fields.traceparent = kept(value).into(),
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                return Err("a field that HTTP/2 does not have");
            }
            b"te" if value != b"trailers" => return Err("a field that HTTP/2 does not have"),
            _ => {}
        }
        Ok(())
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let value = std::str::from_utf8(value).map_err(|_| "a pseudo-header field that is no text")?;
        let Reading { fields, pseudo, .. } = self;
        let (kind, there) = match name {
            b":method" => (Kind::Request, &mut pseudo.method),
            b":scheme" => (Kind::Request, &mut pseudo.scheme),
            b":path" => (Kind::Request, &mut pseudo.path),
            b":authority" => (Kind::Request, &mut pseudo.authority),
            b":status" => (Kind::Response, &mut pseudo.status),
            _ => return Err("an unknown pseudo-header field"),
        };
        if kind != self.kind {
            return Err("a pseudo-header field where it may not be");
        }
        if std::mem::replace(there, true) {
            return Err("a pseudo-header field twice");
        }
        if self.regular {
            return Err("a pseudo-header field behind another field");
        }
        match name {
            b":method" => fields.method = Some(cut(value).into()),
            b":authority" => fields.authority = Some(cut(value).into()),
            b":status" => fields.status = Some(status(value).ok_or("a status that is no number of three digits")?),
            _ => {}
        }
        Ok(())
    }

    fn done(self) -> Fields {
        let Reading { mut fields, kind, pseudo, .. } = self;
        let connect = fields.method.as_deref() == Some("CONNECT");
        if connect && (pseudo.scheme || pseudo.path) {
            fields.malformed.get_or_insert("CONNECT with a scheme or a path"); // section 8.5
        }
        if kind == Kind::Response && !pseudo.status {
            fields.malformed.get_or_insert("an answer without a status");
        }
        fields
    }
}

/// A field's value, where it is text that is not too long.
fn kept(value: &[u8]) -> &str {
    std::str::from_utf8(value).ok().filter(|value| value.len() <= VALUE_MAX).unwrap_or_default()
}

/// The beginning of a pseudo-header field that is too long to be right.
fn cut(value: &str) -> &str {
    let end = (0..=value.len().min(AUTHORITY_MAX)).rev().find(|end| value.is_char_boundary(*end));
    &value[..end.unwrap_or_default()]
}

/// A further value of a list (RFC 9110 section 5.2).
fn append(list: &mut String, value: &[u8]) {
    let value = kept(value);
    if list.len() + 1 + value.len() > VALUE_MAX {
        return;
    }
    if !list.is_empty() {
        list.push(',');
    }
    list.push_str(value);
}

// Without an early end, so that both become vector instructions.

/// Section 8.2.1; the name is not a pseudo-header's.
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    let allowed = |byte: &u8| matches!(byte, 0x21..0x7f) & !byte.is_ascii_uppercase() & (*byte != b':');
    match !name.is_empty() && name.iter().fold(true, |all, byte| all & allowed(byte)) {
        true => Ok(()),
        false => Err("a field's name with a character that is not allowed"),
    }
}

fn check_value(value: &[u8]) -> Result<(), &'static str> {
    let breaks = value.iter().fold(false, |found, byte| found | matches!(byte, 0 | b'\n' | b'\r'));
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    match breaks || blank(value.first()) || blank(value.last()) {
        true => Err("a field's value with a character that is not allowed"),
        false => Ok(()),
    }
}

fn status(value: &str) -> Option<u16> {
    let digits = value.len() == 3 && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|status| digits && *status >= 100)
}

/// A block under construction.
#[derive(Clone, Debug, Default)]
pub struct Block(pub Vec<u8>);

impl Block {
    /// `:method: CONNECT` and `:authority`, nothing else may stand beside them (RFC 9113 section 8.5).
    pub fn connect(authority: &str) -> Self {
        let mut block = Block(Vec::with_capacity(256));
        block.indexed(METHOD, "CONNECT");
        block.indexed(AUTHORITY, authority);
        block
    }

    pub fn status(status: u16) -> Self {
        let mut block = Block::default();
        match status {
            200 => block.0.push(STATUS_200),
            status => block.indexed(STATUS, &status.to_string()),
        }
        block
    }

    /// A field whose value may be empty, in which case it is left out. The name is in lower case.
    pub fn field(&mut self, name: &str, value: &str) -> &mut Self {
        if !value.is_empty() {
            self.0.push(0); // literal without indexing, new name
            self.text(name);
            self.text(value);
        }
        self
    }

    /// Fields that were put into a block of their own.
    pub fn fields(&mut self, fields: &Block) -> &mut Self {
        self.0.extend_from_slice(&fields.0);
        self
    }

    fn indexed(&mut self, name: u8, value: &str) {
        self.0.push(name); // literal without indexing, name from the table (all used ones are below 15)
        self.text(value);
    }

    /// RFC 7541 section 5.2, without Huffman.
    fn text(&mut self, text: &str) {
        let mut rest = text.len();
        if rest < 127 {
            self.0.push(rest as u8);
        } else {
            self.0.push(127);
            rest -= 127;
            while rest >= 128 {
                self.0.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            self.0.push(rest as u8);
        }
        self.0.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::frame::Code;

    fn fields(block: &[u8], kind: Kind) -> Fields {
        read(&mut Decoder::new(), block, kind).unwrap()
    }

    type List<'a> = &'a [(&'a [u8], &'a [u8])];

    /// A block of literals.
    fn block(list: List) -> Vec<u8> {
        let piece = |text: &[u8]| [&[text.len() as u8], text].concat();
        list.iter().flat_map(|(name, value)| [vec![0], piece(name), piece(value)].concat()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let long = "k8s.namespace.name=".to_owned() + &"x".repeat(700);
        let mut block = Block::connect("[fd00::2]:8080");
        block.field("baggage", &long).field("forwarded", "").field("x-other", "y");
        let expected = Fields {
            method: Some("CONNECT".into()),
            authority: Some("[fd00::2]:8080".into()),
            baggage: long,
            ..Fields::default()
        };
        assert_eq!(fields(&block.0, Kind::Request), expected);
        for status in [200, 400, 503] {
            let answer = fields(&Block::status(status).0, Kind::Response);
            assert_eq!(answer, Fields { status: Some(status), ..Fields::default() });
        }
    }

    #[test]
    fn baggage_in_parts_is_one() {
        let list: List = &[(b"baggage", b"a=1"), (b"baggage", b"b=2"), (b"baggage", b"c=3")];
        assert_eq!(fields(&block(list), Kind::Request).baggage, "a=1,b=2,c=3");
    }

    /// A thousand requests of 64 kB could wait otherwise, in each of a peer's tunnels.
    #[test]
    fn what_is_too_long_is_not_kept() {
        let long = "x".repeat(VALUE_MAX + 1);
        let mut block = Block::connect(&"é".repeat(AUTHORITY_MAX));
        block.field("baggage", &long).field("forwarded", &long).field("traceparent", &long);
        (0..5).for_each(|_| _ = block.field("baggage", &long[..VALUE_MAX / 2]));
        let read = fields(&block.0, Kind::Request);
        let kept = [&read.baggage, &read.forwarded, &read.traceparent].map(String::len);
        assert_eq!(kept, [VALUE_MAX / 2, 0, 0]);
        assert_eq!(read.authority.unwrap().len(), AUTHORITY_MAX);
    }

    #[test]
    fn what_makes_a_message_malformed() {
        use Kind::{Request, Response, Trailers};
        let table: &[(Kind, List, bool)] = &[
            (
                Request,
                &[(b":method", b"CONNECT"), (b":authority", b"a:1"), (b"x-!#$%&'*+-.^_`|~9", b"\xff \x7f")],
                false,
            ),
            (Request, &[(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b"te", b"trailers")], false),
            (Request, &[(b":method", b"CONNECT"), (b":scheme", b"https")], true),
            (Request, &[(b":path", b"/"), (b":method", b"CONNECT")], true),
            (Request, &[(b":method", b"CONNECT"), (b":method", b"CONNECT")], true),
            (Request, &[(b":method", b"CONNECT"), (b":status", b"200")], true),
            (Request, &[(b":method", b"CONNECT"), (b":protocol", b"x")], true),
            (Request, &[(b"x", b"y"), (b":method", b"CONNECT")], true),
            (Request, &[(b":authority", b"\xff:1")], true),
            (Request, &[(b"Forwarded", b"x")], true),
            (Request, &[(b"", b"x")], true),
            (Request, &[(b"x y", b"x")], true),
            (Request, &[(b"x:y", b"x")], true),
            (Request, &[(b"x\x7f", b"x")], true),
            (Request, &[(b"caf\xc3\xa9", b"x")], true),
            (Request, &[(b":authority", b"a:1\n")], true),
            (Request, &[(b"x", b"a\0b")], true),
            (Request, &[(b"x", b"a\rb")], true),
            (Request, &[(b"x", b" a")], true),
            (Request, &[(b"x", b"a\t")], true),
            (Request, &[(b"connection", b"close")], true),
            (Request, &[(b"te", b"gzip")], true),
            (Response, &[(b":status", b"204"), (b"x", b"")], false),
            (Response, &[(b"x", b"y")], true),
            (Response, &[(b":status", b"20")], true),
            (Response, &[(b":status", b"+20")], true),
            (Response, &[(b":status", b"099")], true),
            (Response, &[(b":method", b"CONNECT"), (b":status", b"200")], true),
            (Trailers, &[(b"x", b"y")], false),
            (Trailers, &[], false),
            (Trailers, &[(b":status", b"200")], true),
        ];
        for (kind, list, malformed) in table {
            let found = fields(&block(list), *kind).malformed;
            assert_eq!(found.is_some(), *malformed, "{kind:?} {list:?}: {found:?}");
        }
        assert!(fields(&[STATUS_200], Trailers).malformed.is_some());
    }

    #[test]
    fn a_block_that_is_none_ends_the_connection() {
        let mut swelling = vec![0x40, 1, b'a', 127, 0x81, 0x17]; // literal with indexing, value of 127 + 2945 bytes
        swelling.extend([b'x'; 127 + 0x81 - 128 + 0x17 * 128]);
        swelling.extend([0xbe; 200]);
        let code = |block: &[u8]| read(&mut Decoder::new(), block, Kind::Request).unwrap_err().code;
        assert_eq!(code(&swelling), Code::ENHANCE_YOUR_CALM);
        assert_eq!(code(&[0xff, 0xff, 0xff]), Code::COMPRESSION_ERROR);
    }
}
