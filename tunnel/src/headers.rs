//! Header blocks of a CONNECT and of its answer (HBONE): HPACK in from a library, out as plain literals.
//!
//! We never use the dynamic table when sending: the values that repeat (baggage) are encoded once and copied, the others
//! never repeat. So a block costs a few copies and no state.
use crate::frame::{Code, Violation};
use loona_hpack::Decoder;

/// Decoded size of a header list that is accepted, names and values and 32 bytes each (RFC 9113 section 6.5.2).
pub const LIST_MAX: usize = 64 << 10;
/// Indices of the static table (RFC 7541 appendix A).
const AUTHORITY: u8 = 1;
const METHOD: u8 = 2;
const STATUS: u8 = 8;
const STATUS_200: u8 = 0x80 | 8;

/// The fields that HBONE reads; all others are ignored.
#[derive(Debug, Default, PartialEq)]
pub struct Fields {
    pub method: Option<String>,
    pub scheme: Option<String>,
    pub path: Option<String>,
    pub authority: Option<String>,
    pub status: Option<u16>,
    pub baggage: String,
    pub forwarded: String,
    pub traceparent: String,
    pub forwarded_network: String,
}

/// Reads a block. Each block of a connection must pass here, in order: they share state.
pub fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Violation> {
    if block == [STATUS_200] {
        return Ok(Fields { status: Some(200), ..Fields::default() });
    }
    let (mut fields, mut size) = (Fields::default(), 0);
    let decoded = decoder.decode_with_cb(block, |name, value| {
        size += name.len() + value.len() + 32;
        if size > LIST_MAX {
            return;
        }
        let Ok(value) = std::str::from_utf8(&value) else { return };
        match &*name {
            b":method" => fields.method = Some(value.into()),
            b":scheme" => fields.scheme = Some(value.into()),
            b":path" => fields.path = Some(value.into()),
            b":authority" => fields.authority = Some(value.into()),
            b":status" => fields.status = value.parse().ok(),
            b"baggage" if fields.baggage.is_empty() => fields.baggage = value.into(),
            b"baggage" => fields.baggage = format!("{},{value}", fields.baggage), // RFC 9110 section 5.2
            b"forwarded" => fields.forwarded = value.into(),
            b"traceparent" => fields.traceparent = value.into(),
            b"x-forwarded-network" => fields.forwarded_network = value.into(),
            _ => {}
        }
    });
    match decoded {
        Err(_) => Err(Violation { code: Code::COMPRESSION_ERROR, what: "a header block that cannot be read" }),
        Ok(()) if size > LIST_MAX => Err(Violation { code: Code::ENHANCE_YOUR_CALM, what: "a header list too long" }),
        Ok(()) => Ok(fields),
    }
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

    #[test]
    fn what_is_written_is_read() {
        let long = "k8s.namespace.name=".to_owned() + &"x".repeat(700);
        let mut block = Block::connect("[fd00::2]:8080");
        block.field("baggage", &long).field("forwarded", "").field("x-other", "y");
        let fields = read(&mut Decoder::new(), &block.0).unwrap();
        assert_eq!(fields.method.as_deref(), Some("CONNECT"));
        assert_eq!(fields.authority.as_deref(), Some("[fd00::2]:8080"));
        assert_eq!((fields.baggage, fields.forwarded.as_str()), (long, ""));
        for status in [200, 400, 503] {
            assert_eq!(read(&mut Decoder::new(), &Block::status(status).0).unwrap().status, Some(status));
        }
    }

    #[test]
    fn a_peers_table_and_huffman_are_understood() {
        // RFC 7541 C.4.1 and C.4.2: the second block refers to what the first one stored.
        let mut decoder = Decoder::new();
        let first =
            [0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(read(&mut decoder, &first).unwrap().authority.as_deref(), Some("www.example.com"));
        let second = [0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf];
        assert_eq!(read(&mut decoder, &second).unwrap().authority.as_deref(), Some("www.example.com"));
    }

    #[test]
    fn a_block_that_swells_is_refused() {
        let mut block = vec![0x40, 1, b'a', 127, 0x81, 0x17]; // literal with indexing, value of 127 + 2945 bytes
        block.extend([b'x'; 127 + 0x81 - 128 + 0x17 * 128]);
        block.extend([0xbe; 200]);
        assert_eq!(read(&mut Decoder::new(), &block).unwrap_err().code, Code::ENHANCE_YOUR_CALM);
        assert_eq!(read(&mut Decoder::new(), &[0xff, 0xff, 0xff]).unwrap_err().code, Code::COMPRESSION_ERROR);
    }
}
