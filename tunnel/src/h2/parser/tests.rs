//! Frames as peers send them, right and wrong, in pieces of any size.
use super::*;
use crate::h2::frame::{
    data_header, header, put, put_end, put_goaway, put_headers, put_ping, put_reset, put_settings, put_settings_ack,
    put_window,
};

/// Parses all of `buf[part]`, in as many turns as it takes.
fn parse(parser: &mut Parser, buf: &[u8], part: Range<usize>, events: &mut Vec<Event>) -> Result<(), Violation> {
    let mut at = part.start;
    while at < part.end {
        parser.begin_turn();
        at = parser.parse(buf, at..part.end, events)?;
    }
    Ok(())
}

/// Parses in pieces of every size, which must make no difference but for where DATA is cut.
fn events(server: bool, bytes: &[u8]) -> Result<Vec<Event>, Violation> {
    let whole = {
        let (mut parser, mut events) = (Parser::new(server), Vec::new());
        parse(&mut parser, bytes, 0..bytes.len(), &mut events).map(|()| events)
    };
    for size in 1..bytes.len().min(40) {
        let (mut parser, mut events, mut result) = (Parser::new(server), Vec::new(), Ok(()));
        for start in (0..bytes.len()).step_by(size) {
            result = parse(&mut parser, bytes, start..(start + size).min(bytes.len()), &mut events);
            if result.is_err() {
                break;
            }
        }
        let joined = result.map(|()| join(events));
        assert_eq!(joined, whole.as_ref().map(|e| join(e.iter().map(copy).collect())).map_err(|v| Violation { ..*v }));
    }
    whole
}

fn copy(event: &Event) -> Event {
    match event {
        Event::Headers { id, block, end } => Event::Headers { id: *id, block: block.clone(), end: *end },
        Event::Data(id, range) => Event::Data(*id, range.clone()),
        Event::Padding(id, n) => Event::Padding(*id, *n),
        Event::End(id) => Event::End(*id),
        Event::Reset(id, code) => Event::Reset(*id, *code),
        Event::Window(id, n) => Event::Window(*id, *n),
        Event::Settings(s) => Event::Settings(Settings { ..*s }),
        Event::Acknowledged => Event::Acknowledged,
        Event::Ping(p) => Event::Ping(*p),
        Event::Pong(p) => Event::Pong(*p),
        Event::GoAway(id, code) => Event::GoAway(*id, *code),
    }
}

fn join(events: Vec<Event>) -> Vec<Event> {
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (Some(Event::Data(a, first)), Event::Data(b, next)) if *a == b && first.end == next.start => {
                first.end = next.end;
            }
            (_, event) => joined.push(event),
        }
    }
    joined
}

fn greeting() -> Vec<u8> {
    let mut out = Vec::new();
    put_settings(&mut out, 1 << 20, 16_384, None);
    out
}

fn raw(kind: u8, flags: u8, id: u32, body: &[u8]) -> Vec<u8> {
    let mut out = greeting();
    put(&mut out, kind, flags, id, body);
    out
}

fn last(bytes: &[u8]) -> Event {
    events(false, bytes).unwrap().pop().unwrap()
}

fn refused(bytes: &[u8]) -> Code {
    events(false, bytes).unwrap_err().code
}

#[test]
fn what_is_put_is_parsed() {
    let mut out = PREFACE.to_vec();
    put_settings(&mut out, 4 << 20, 65_536, Some(200));
    put_headers(&mut out, 1, b"block", false);
    let start = out.len() + HEADER;
    out.extend_from_slice(&data_header(3, 1));
    out.extend_from_slice(b"abc");
    put_end(&mut out, 1);
    put_window(&mut out, 0, 7);
    put_reset(&mut out, 3, Code::CONNECT_ERROR);
    put_ping(&mut out, *b"12345678", false);
    put_ping(&mut out, *b"12345678", true);
    put_settings_ack(&mut out);
    put_goaway(&mut out, 5, Code::NO_ERROR);
    assert_eq!(
        events(true, &out).unwrap(),
        [
            Event::Settings(Settings { window: Some(4 << 20), streams: Some(200) }),
            Event::Headers { id: 1, block: b"block".to_vec(), end: false },
            Event::Data(1, start..start + 3),
            Event::End(1),
            Event::Window(0, 7),
            Event::Reset(3, Code::CONNECT_ERROR),
            Event::Ping(*b"12345678"),
            Event::Pong(*b"12345678"),
            Event::Acknowledged,
            Event::GoAway(5, Code::NO_ERROR),
        ]
    );
}

#[test]
fn padding_priority_and_continuation_are_understood() {
    let data = raw(DATA, PADDED | END_STREAM, 1, &[2, b'x', b'y', b'z', 0, 0]);
    let start = data.len() - 5;
    let mut all = events(false, &data).unwrap();
    all.remove(0);
    assert_eq!(all, [Event::Padding(1, 3), Event::Data(1, start..start + 3), Event::End(1)]);
    let mut split = raw(HEADERS, PADDED | PRIORITISED | END_STREAM, 1, &[1, 0, 0, 0, 0, 9, b'a', b'b', 0]);
    put(&mut split, CONTINUATION, END_HEADERS, 1, b"cd");
    assert_eq!(last(&split), Event::Headers { id: 1, block: b"abcd".to_vec(), end: true });
    assert_eq!(last(&raw(0x77, 0xff, 1, b"an unknown frame")), last(&greeting()));
}

#[test]
fn violations_are_named_by_their_code() {
    assert_eq!(events(true, b"GET / HTTP/1.1\r\n\r\n").unwrap_err().code, Code::PROTOCOL_ERROR);
    let mut early = Vec::new();
    put_ping(&mut early, [0; 8], false);
    assert_eq!(refused(&early), Code::PROTOCOL_ERROR);
    assert_eq!(refused(&raw(DATA, 0, 0, b"x")), Code::PROTOCOL_ERROR);
    assert_eq!(refused(&raw(PING, 0, 1, &[0; 8])), Code::PROTOCOL_ERROR);
    assert_eq!(refused(&raw(PING, 0, 0, &[0; 7])), Code::FRAME_SIZE_ERROR);
    assert_eq!(refused(&raw(SETTINGS, 0, 0, &[0; 7])), Code::FRAME_SIZE_ERROR);
    assert_eq!(refused(&raw(SETTINGS, 0, 0, &[0, 4, 0xff, 0, 0, 0])), Code::FLOW_CONTROL_ERROR);
    assert_eq!(refused(&raw(DATA, PADDED, 1, &[9, 0])), Code::PROTOCOL_ERROR);
    assert_eq!(refused(&raw(PUSH_PROMISE, 0, 1, &[0; 4])), Code::PROTOCOL_ERROR);
    assert_eq!(refused(&raw(WINDOW_UPDATE, 0, 0, &[0; 4])), Code::PROTOCOL_ERROR);
    assert_eq!(refused(&raw(CONTINUATION, 0, 1, b"x")), Code::PROTOCOL_ERROR);
    let mut interrupted = raw(HEADERS, 0, 1, b"x");
    put_ping(&mut interrupted, [0; 8], false);
    assert_eq!(refused(&interrupted), Code::PROTOCOL_ERROR);
    for (size, kind, id) in [
        (BLOCK_MAX + 1, HEADERS, 1),
        (FRAME_MAX + 1, DATA, 1),
        (CONTROL_MAX + 1, SETTINGS, 0),
        (CONTROL_MAX + 1, GOAWAY, 0),
        (CONTROL_MAX + 1, 0x77, 1),
    ] {
        let long = [greeting(), header(size, kind, 0, id).to_vec()].concat();
        assert_eq!(refused(&long), Code::FRAME_SIZE_ERROR, "before it has come: of kind {kind}");
    }
}

#[test]
fn a_header_block_is_bounded_in_frames_and_in_bytes() {
    let continued = |times: u32, body: &[u8]| {
        let mut bytes = raw(HEADERS, 0, 1, b"x");
        (0..times).for_each(|_| put(&mut bytes, CONTINUATION, 0, 1, body));
        let whole = 0..bytes.len();
        parse(&mut Parser::new(false), &bytes, whole, &mut Vec::new()).map_err(|violation| violation.code)
    };
    assert_eq!(continued(CONTINUATIONS_MAX, b""), Ok(()));
    assert_eq!(continued(CONTINUATIONS_MAX + 1, b""), Err(Code::ENHANCE_YOUR_CALM));
    assert_eq!(continued(4, &[0; 8_000]), Ok(()));
    assert_eq!(continued(5, &[0; 8_000]), Err(Code::ENHANCE_YOUR_CALM));
}

#[test]
fn a_large_frame_leaves_no_memory_behind() {
    let (mut parser, large) = (Parser::new(false), raw(HEADERS, END_HEADERS, 1, &[0; BLOCK_MAX / 2]));
    parse(&mut parser, &large, 0..large.len(), &mut Vec::new()).unwrap();
    assert!(parser.body.capacity() <= 256);
}

/// How many of these frames are parsed in one turn.
fn in_a_turn(frame: &[u8]) -> usize {
    let (mut parser, mut events) = (Parser::new(false), Vec::new());
    let greeting = greeting();
    parser.parse(&greeting, 0..greeting.len(), &mut events).unwrap();
    parser.begin_turn();
    let flood = frame.repeat(10 * TURN);
    parser.parse(&flood, 0..flood.len(), &mut events).unwrap() / frame.len()
}

/// Whatever a peer sends, and however much of it: the work of a turn is bounded. DATA of the usual size is not held up.
#[test]
fn a_turn_is_over_after_so_much_work() {
    let frame = |kind: u8, flags: u8, body: &[u8]| {
        let mut out = Vec::new();
        put(&mut out, kind, flags, if matches!(kind, SETTINGS | PING | GOAWAY) { 0 } else { 1 }, body);
        out
    };
    for (frame, times) in [
        (frame(PING, 0, &[0; 8]), TURN),
        (frame(RST_STREAM, 0, &[0; 4]), TURN),
        (frame(PRIORITY, 0, &[0; 5]), TURN),
        (frame(0x77, 0, &[]), TURN),
        (frame(DATA, 0, &[]), TURN),
        (frame(DATA, 0, &[0]), TURN / 2),
        (frame(DATA, PADDED, &[1, 0, 0]), TURN / 2),
        (frame(SETTINGS, 0, &[]), TURN / ALL_STREAMS_COST),
        (frame(GOAWAY, 0, &[0; 8]), TURN / ALL_STREAMS_COST),
        (frame(HEADERS, END_HEADERS, &[0x82]), TURN.div_ceil(BLOCK_COST + 1)),
        (frame(HEADERS, END_HEADERS, &[0; BLOCK_MAX / 2]), 1),
    ] {
        assert_eq!(in_a_turn(&frame), times, "frames of kind {}", frame[3]);
    }
}
