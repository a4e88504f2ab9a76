//! HTTP/2 frames as bytes, right ones and wrong ones (RFC 9113, RFC 7541). Those that come are cut apart.

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const HEADER: usize = 9;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const CANCEL: u32 = 8;

/// A frame's header and its body, appended.
pub fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    let [_, a, b, c] = (body.len() as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(body);
}

pub fn settings(out: &mut Vec<u8>, pairs: &[(u16, u32)]) {
    let pair = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()[..]].concat();
    frame(out, SETTINGS, 0, 0, &pairs.iter().flat_map(pair).collect::<Vec<u8>>());
}

pub fn window(out: &mut Vec<u8>, stream: u32, more: u32) {
    frame(out, WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
}

pub fn reset(out: &mut Vec<u8>, stream: u32, code: u32) {
    frame(out, RST_STREAM, 0, stream, &code.to_be_bytes());
}

/// A request for a stream; `more` are fields of the block beside those that must be there.
pub fn connect(out: &mut Vec<u8>, stream: u32, authority: &str, more: &[u8]) {
    frame(out, HEADERS, END_HEADERS, stream, &[&block(authority), more].concat());
}

/// `:method: CONNECT` and `:authority`, as literals that are not put into the table.
pub fn block(authority: &str) -> Vec<u8> {
    let mut block = vec![2];
    text(&mut block, b"CONNECT");
    block.push(1);
    text(&mut block, authority.as_bytes());
    block
}

/// A field `x` whose value is `size` bytes of Huffman code, size a multiple of 5: 8/5 as many characters `0`, of 5 zero bits
/// each.
pub fn huffman_field(size: usize) -> Vec<u8> {
    let mut field = vec![0, 1, b'x'];
    length(&mut field, 0x80, size);
    field.resize(field.len() + size, 0);
    field
}

/// A string without Huffman (RFC 7541 section 5.2).
pub fn text(out: &mut Vec<u8>, text: &[u8]) {
    length(out, 0, text.len());
    out.extend_from_slice(text);
}

/// An integer with a prefix of 7 bits (RFC 7541 section 5.1).
pub fn length(out: &mut Vec<u8>, flag: u8, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else { return out.push(flag | length as u8) };
    out.push(flag | 127);
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A frame that came.
pub struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// A number at the start of the body, or behind `skip` bytes of it.
    pub fn number(&self, skip: usize) -> u32 {
        self.body.get(skip..skip + 4).map_or(0, |four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
    }

    /// The answer to a request: indexed, or a literal of three digits.
    pub fn status(&self) -> &str {
        match self.body {
            [0x88, ..] => "200",
            [first, 3, digits @ ..] if first & 0xf == 8 => {
                digits.get(..3).and_then(|three| std::str::from_utf8(three).ok()).unwrap_or("?")
            }
            _ => "?",
        }
    }
}

/// Gives each complete frame of `bytes`; says how many bytes they are.
pub fn each(bytes: &[u8], mut tell: impl FnMut(Frame)) -> usize {
    let mut at = 0;
    while let Some(&[a, b, c, kind, flags, ..]) = bytes.get(at..at + HEADER) {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some(body) = bytes.get(at + HEADER..at + HEADER + length) else { break };
        tell(Frame { kind, flags, body });
        at += HEADER + length;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_cut_apart() {
        let mut bytes = Vec::new();
        settings(&mut bytes, &[(INITIAL_WINDOW_SIZE, 7)]);
        frame(&mut bytes, HEADERS, END_HEADERS, 1, &[8, 3, b'5', b'0', b'3']);
        reset(&mut bytes, 3, CANCEL);
        let whole = bytes.len();
        bytes.truncate(whole - 1);
        let mut seen = Vec::new();
        let used = each(&bytes, |frame| seen.push((frame.kind, frame.status().to_owned())));
        assert_eq!(used, whole - 13);
        assert_eq!(seen, [(SETTINGS, "?".to_owned()), (HEADERS, "503".to_owned())]);
    }

    #[test]
    fn lengths_are_those_of_the_rfc() {
        let coded = |n| {
            let mut out = Vec::new();
            length(&mut out, 0, n);
            out
        };
        assert_eq!(coded(126), [126]);
        assert_eq!(coded(127), [127, 0]);
        assert_eq!(coded(127 + 1337), [127, 0xb9, 0x0a]);
    }
}
