//! Chunked bodies (RFC 9112 section 7.1), read without guessing.
use super::head::{self, Refused};
use crate::http::settings::Limits;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use memchr::memmem;

/// Bytes of a chunk's size line; extensions are passed over.
const LINE_MAX: usize = 256;
/// Bytes of extensions in one body: a peer may not send a hundred bytes for each one that counts.
const EXTENSIONS_MAX: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    /// The CRLF behind a chunk's data.
    DataEnd,
    Trailers,
    Done,
}

#[derive(Debug)]
pub struct Chunked {
    state: State,
    extensions: usize,
    limits: Limits,
}

#[derive(Debug)]
pub enum Piece {
    Data(Bytes),
    End(Option<HeaderMap>),
}

impl Chunked {
    pub fn new(limits: Limits) -> Chunked {
        Chunked { state: State::Size, extensions: 0, limits }
    }

    /// The next piece of what has arrived; `None`: more must arrive.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Refused> {
        loop {
            match self.state {
                State::Size => match self.size(input)? {
                    None => return Ok(None),
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Data(size),
                },
                State::Data(_) if input.is_empty() => return Ok(None),
                State::Data(left) => return Ok(Some(Piece::Data(self.data(left, input)))),
                State::DataEnd => match &input[..] {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(Refused::bad("a chunk that is longer than its size")),
                },
                State::Trailers => return self.trailers(input),
                State::Done => return Ok(Some(Piece::End(None))),
            }
        }
    }

    fn data(&mut self, left: u64, input: &mut BytesMut) -> Bytes {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let left = left - take as u64;
        self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
        input.split_to(take).freeze()
    }

    fn size(&mut self, input: &mut BytesMut) -> Result<Option<u64>, Refused> {
        let Some(end) = memmem::find(&input[..input.len().min(LINE_MAX)], b"\r\n") else {
            let line = input.strip_suffix(b"\r").unwrap_or(input);
            let proper = input.is_empty() || (input.len() < LINE_MAX && size(line).is_ok());
            return if proper { Ok(None) } else { Err(Refused::bad("malformed chunk size")) };
        };
        let (number, extensions) = size(&input[..end])?;
        self.extensions += extensions;
        if self.extensions > EXTENSIONS_MAX {
            return Err(Refused::bad("too many chunk extensions"));
        }
        input.advance(end + 2);
        Ok(Some(number))
    }

    fn trailers(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Refused> {
        if input.starts_with(b"\r\n") {
            input.advance(2);
            self.state = State::Done;
            return Ok(Some(Piece::End(None)));
        }
        let end = memmem::find(input, b"\r\n\r\n").map(|at| at + 4);
        if end.unwrap_or(input.len()) > self.limits.bytes {
            return Err(Refused::bad("too many bytes of trailers"));
        }
        let Some(end) = end else { return Ok(None) };
        self.state = State::Done;
        let block = input.split_to(end).freeze();
        head::trailers(&block, self.limits).map(|trailers| Some(Piece::End(Some(trailers))))
    }
}

/// A size line without its CRLF, or its beginning: the size, and the bytes of its extensions. Blanks before an extension
/// are refused: one that takes them as the end of the line reads another body.
fn size(line: &[u8]) -> Result<(u64, usize), Refused> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (number, extension) = line.split_at(digits);
    let number =
        std::str::from_utf8(number).ok().filter(|_| digits <= 16).and_then(|n| u64::from_str_radix(n, 16).ok());
    let number = number.filter(|number| *number <= i64::MAX as u64).ok_or(Refused::bad("malformed chunk size"))?;
    let visible = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    match extension {
        [] => Ok((number, 0)),
        [b';', more @ ..] if more.iter().all(visible) => Ok((number, extension.len())),
        _ => Err(Refused::bad("malformed chunk size")),
    }
}
