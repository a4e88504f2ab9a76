//! Doors to the parsers of what peers send, for the targets in `fuzz/`: only in a build for fuzzing (`--cfg fuzzing`). Each
//! panics where something does not hold.
use crate::base::Identity;
use crate::decision::Authority;
pub use crate::dns::questions;
use crate::h2::frame::{Event, Violation};
use crate::h2::headers::{self, Decoder, Kind};
use crate::h2::hpack;
use crate::h2::parser::Parser;
pub use crate::http::h1::fuzzing::{chunks, http1};
use crate::telemetry::Baggage;
pub use crate::tls::record_layer::fuzzing::records;
use std::ops::Range;

/// Plaintext of a tunnel, in pieces of the size that the first byte says: they give what the whole gives.
pub fn frames(input: &[u8]) {
    let Some((&size, bytes)) = input.split_first() else { return };
    for server in [false, true] {
        let whole = parsed(server, bytes, bytes.len().max(1));
        assert_eq!(parsed(server, bytes, usize::from(size).max(1)), whole);
    }
}

/// Events up to a violation, DATA joined where it is consecutive.
fn parsed(server: bool, bytes: &[u8], size: usize) -> (Vec<Event>, Option<Violation>) {
    let (mut parser, mut events) = (Parser::new(server), Vec::new());
    let violation = (0..bytes.len())
        .step_by(size)
        .try_for_each(|start| take(&mut parser, bytes, start..(start + size).min(bytes.len()), &mut events))
        .err();
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (Some(Event::Data(a, first)), Event::Data(b, next)) if *a == b && first.end == next.start => {
                first.end = next.end;
            }
            (_, event) => joined.push(event),
        }
    }
    (joined, violation)
}

/// A piece, in as many turns as it needs.
fn take(parser: &mut Parser, bytes: &[u8], mut part: Range<usize>, events: &mut Vec<Event>) -> Result<(), Violation> {
    loop {
        parser.begin_turn();
        part.start = parser.parse(bytes, part.clone(), events)?;
        if !parser.is_turn_over() {
            assert!(part.is_empty(), "more of the turn is left, and of the input");
            return Ok(());
        }
    }
}

/// Header blocks of one connection, each behind two bytes: what it is, and its length in the lower 14 bits.
pub fn headers(mut input: &[u8]) {
    let mut decoder = Decoder::new();
    while let Some((head, rest)) = input.split_first_chunk() {
        let head = u16::from_be_bytes(*head);
        let (block, rest) = rest.split_at(usize::from(head & 0x3fff).min(rest.len()));
        let kind = [Kind::Request, Kind::Response, Kind::Trailers][usize::from(head >> 14) % 3];
        let Ok(fields) = headers::read(&mut decoder, block, kind) else { return };
        let texts = [&fields.method.unwrap_or_default(), &fields.authority.unwrap_or_default(), &fields.baggage];
        assert!(texts.iter().map(|text| text.len()).sum::<usize>() <= hpack::LIST_MAX);
        input = rest;
    }
}

/// A peer's `baggage`: what was understood is written and understood again.
pub fn baggage(input: &[u8]) {
    let Some(once) = Baggage::parse(input).map(|baggage| baggage.to_string()) else { return };
    let twice = Baggage::parse(once.as_bytes()).map(|baggage| baggage.to_string());
    assert_eq!(twice, Some(once));
}

/// Names that a peer gives: its authority and its SPIFFE identity are written as they were read.
pub fn names(input: &[u8]) {
    if let Ok(authority) = Authority::parse(input) {
        assert_eq!(Authority::parse(authority.to_string().as_bytes()), Ok(authority));
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(identity) = text.parse::<Identity>() {
        assert_eq!(identity.to_string(), text);
    }
}
