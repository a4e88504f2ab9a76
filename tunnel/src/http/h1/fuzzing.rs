//! Doors to the parsers, for `fuzz/`.
use super::chunked::{Chunked, Piece};
use super::encode::{self, Outgoing};
use super::framing::Framing;
use super::head::{self, Finder, Refused};
use crate::http::settings::Limits;
use bytes::{Bytes, BytesMut};
use http::Method;

/// Requests of one connection, in pieces of the size that the first byte says: heads are found as in the whole. What is taken
/// is written, and read again as the same.
pub fn http1(input: &[u8]) {
    let Some((&size, bytes)) = input.split_first() else { return };
    let whole = heads(bytes, bytes.len().max(1));
    // Of several reasons to refuse it, another one may be met first.
    assert_eq!(heads(bytes, usize::from(size).max(1)).ok(), whole.clone().ok());
    let Ok(heads) = whole else { return };
    for head in heads {
        let _ = head::response(&head, Limits::default(), &Method::GET);
        let Ok(taken) = head::request(&head, Limits::default(), None) else { continue };
        let mut written = BytesMut::new();
        let outgoing = match taken.framing {
            Framing::Length(0) => Outgoing::Nothing,
            Framing::Length(length) => Outgoing::Length(length),
            Framing::Chunked => Outgoing::Chunked,
            Framing::UntilClose => unreachable!("a request has a length"),
        };
        let (framing, request) = (taken.framing, taken.request);
        encode::request(&mut written, &request, outgoing);
        let limits = Limits { fields: Limits::FIELDS, bytes: usize::MAX };
        let again = head::request(&written.freeze(), limits, None).expect("what was written can be read");
        assert_eq!(again.framing, framing);
        let again = again.request;
        assert_eq!((again.method, again.authority, again.path), (request.method, request.authority, request.path));
    }
}

/// The heads in `bytes`, which arrive in pieces.
fn heads(bytes: &[u8], size: usize) -> Result<Vec<Bytes>, Refused> {
    let (mut finder, mut input, mut heads) = (Finder::default(), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(size) {
        input.extend_from_slice(piece);
        while let Some(head) = finder.take(&mut input, Limits::default())? {
            heads.push(head);
        }
    }
    Ok(heads)
}

/// A chunked body, in pieces of the size that the first byte says: it gives what the whole gives.
pub fn chunks(input: &[u8]) {
    let Some((&size, bytes)) = input.split_first() else { return };
    assert_eq!(decoded(bytes, usize::from(size).max(1)), decoded(bytes, bytes.len().max(1)));
}

/// Data, and whether the end came; None: it is malformed. What comes before that may differ by pieces.
fn decoded(bytes: &[u8], size: usize) -> Option<(Vec<u8>, bool)> {
    let (mut chunked, mut input, mut data) = (Chunked::new(Limits::default()), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(size) {
        input.extend_from_slice(piece);
        while let Some(piece) = chunked.next(&mut input).ok()? {
            match piece {
                Piece::Data(bytes) => data.extend_from_slice(&bytes),
                Piece::End(_) => return Some((data, true)),
            }
        }
    }
    Some((data, false))
}
