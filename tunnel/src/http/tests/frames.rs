//! Frames that RFC 9113 forbids or that would wear us out, sent by a client; each row with its end.
use super::*;
use crate::h2::headers::{self, Decoder, Kind};
use crate::http::h2::PREFACE;
use crate::http::testing::run;
use std::io::ErrorKind::WouldBlock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0x42;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WHOLE: u8 = END_STREAM | END_HEADERS;

/// Error codes (RFC 9113 section 7). The h2 crate says PROTOCOL_ERROR of most frames that are of a wrong size, and of blocks
/// that cannot be read: the connection ends as well.
const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const COMPRESSION: u32 = 9;
const CALM: u32 = 11;

/// What becomes of a row's frames. Where a stream's end would do, the connection's is as good (section 5.4.2).
#[derive(Clone, Copy, Debug)]
enum End {
    /// GOAWAY with one of these codes.
    Connection(&'static [u32]),
    /// RST_STREAM of stream 1 with one of these codes, GOAWAY, or 400: the server gets nothing that is whole.
    Stream(&'static [u32]),
    /// Stream 1 is answered so by us: nothing reaches the server.
    Status(u16),
    /// It does no harm: the next request is answered.
    Goes,
}
use End::*;

pub fn frame(kind: u8, flags: u8, id: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), body].concat()
}

/// A header block without Huffman's code and without the table; names and values below 127 bytes.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];

fn get(id: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, id, &block(&GET))
}

/// A request of which a body is still to come.
fn open(id: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, id, &block(&GET))
}

/// A request with these pseudo-headers and fields.
fn whole(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &block(fields))
}

/// A usual one with another field.
fn with(name: &str, value: &str) -> Vec<u8> {
    whole(&[&GET[..], &[(name, value)]].concat())
}

/// A usual one without a field, or with another value of it.
fn but(name: &str, value: Option<&str>) -> Vec<u8> {
    let fields = GET.iter().filter_map(|field| match field.0 == name {
        true => value.map(|value| (name, value)),
        false => Some(*field),
    });
    whole(&fields.collect::<Vec<_>>())
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// With a content-length and so many bytes of a body.
fn sized(length: &str, body: &[u8]) -> Vec<u8> {
    let head = block(&[&GET[..], &[("content-length", length)]].concat());
    [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, END_STREAM, 1, body)].concat()
}

fn rows() -> Vec<(&'static str, Vec<u8>, End)> {
    let all = |frames: &[Vec<u8>]| frames.concat();
    let one = 1u32.to_be_bytes();
    vec![
        // Section 5.1: states of streams
        ("DATA of an idle stream", frame(DATA, 0, 1, b"x"), Connection(&[PROTOCOL])),
        ("RST_STREAM of an idle stream", frame(RST_STREAM, 0, 1, &one), Connection(&[PROTOCOL])),
        ("WINDOW_UPDATE of an idle stream", frame(WINDOW_UPDATE, 0, 1, &one), Connection(&[PROTOCOL])),
        ("CONTINUATION of an idle stream", frame(CONTINUATION, END_HEADERS, 1, &[]), Connection(&[PROTOCOL])),
        ("PRIORITY of an idle stream", frame(PRIORITY, 0, 7, &[0, 0, 0, 0, 9]), Goes),
        ("DATA behind the end", all(&[get(1), frame(DATA, 0, 1, b"x")]), Connection(&[CLOSED, PROTOCOL])),
        ("HEADERS behind the end", all(&[get(1), get(1)]), Connection(&[CLOSED, PROTOCOL])),
        (
            "CONTINUATION behind the end",
            all(&[get(1), frame(CONTINUATION, END_HEADERS, 1, &[])]),
            Connection(&[PROTOCOL]),
        ),
        (
            "DATA behind a reset",
            all(&[open(1), frame(RST_STREAM, 0, 1, &8u32.to_be_bytes()), frame(DATA, 0, 1, b"x")]),
            Stream(&[CLOSED, PROTOCOL]),
        ),
        (
            "HEADERS behind a reset",
            all(&[open(1), frame(RST_STREAM, 0, 1, &8u32.to_be_bytes()), get(1)]),
            Connection(&[CLOSED, PROTOCOL]),
        ),
        ("a stream of ours", get(2), Connection(&[PROTOCOL])),
        ("a number that was passed", all(&[get(5), get(3)]), Connection(&[CLOSED, PROTOCOL])),
        // Section 4 and 6: sizes, streams and flags of frames
        ("a frame above the largest", frame(DATA, 0, 1, &[0; 16_385]), Connection(&[FRAME_SIZE, PROTOCOL])),
        ("HEADERS above the largest", frame(HEADERS, WHOLE, 1, &[0; 16_385]), Connection(&[FRAME_SIZE, PROTOCOL])),
        ("DATA of the connection", frame(DATA, 0, 0, b"x"), Connection(&[PROTOCOL])),
        ("HEADERS of the connection", frame(HEADERS, WHOLE, 0, &block(&GET)), Connection(&[PROTOCOL])),
        ("PRIORITY of the connection", frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 9]), Connection(&[PROTOCOL])),
        ("RST_STREAM of the connection", frame(RST_STREAM, 0, 0, &one), Connection(&[PROTOCOL])),
        ("CONTINUATION of the connection", frame(CONTINUATION, END_HEADERS, 0, &[]), Connection(&[PROTOCOL])),
        ("SETTINGS of a stream", frame(SETTINGS, 0, 1, &[]), Connection(&[PROTOCOL])),
        ("PING of a stream", frame(PING, 0, 1, &[0; 8]), Connection(&[PROTOCOL])),
        ("GOAWAY of a stream", frame(GOAWAY, 0, 1, &[0; 8]), Connection(&[PROTOCOL])),
        (
            "a client's PUSH_PROMISE",
            all(&[open(1), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])]),
            Connection(&[PROTOCOL]),
        ),
        ("padding longer than DATA", all(&[open(1), frame(DATA, PADDED, 1, &[5, 0, 0])]), Connection(&[PROTOCOL])),
        (
            "padded DATA without a byte",
            all(&[open(1), frame(DATA, PADDED, 1, &[])]),
            Connection(&[PROTOCOL, FRAME_SIZE]),
        ),
        ("padding longer than HEADERS", frame(HEADERS, WHOLE | PADDED, 1, &[200, 0]), Connection(&[PROTOCOL])),
        ("a short PRIORITY", frame(PRIORITY, 0, 1, &[0; 4]), Connection(&[FRAME_SIZE, PROTOCOL])),
        ("a short RST_STREAM", all(&[open(1), frame(RST_STREAM, 0, 1, &[0; 3])]), Connection(&[FRAME_SIZE, PROTOCOL])),
        ("a long RST_STREAM", all(&[open(1), frame(RST_STREAM, 0, 1, &[0; 5])]), Connection(&[FRAME_SIZE, PROTOCOL])),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), Connection(&[FRAME_SIZE, PROTOCOL])),
        ("an acknowledgement with a setting", frame(SETTINGS, ACK, 0, &[0; 6]), Connection(&[FRAME_SIZE, PROTOCOL])),
        ("a PING of seven bytes", frame(PING, 0, 0, &[0; 7]), Connection(&[FRAME_SIZE, PROTOCOL])),
        ("a PING of nine bytes", frame(PING, 0, 0, &[0; 9]), Connection(&[FRAME_SIZE, PROTOCOL])),
        ("a GOAWAY of seven bytes", frame(GOAWAY, 0, 0, &[0; 7]), Connection(&[FRAME_SIZE, PROTOCOL])),
        ("a short WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), Connection(&[FRAME_SIZE, PROTOCOL])),
        // Section 6.5.2: values of settings
        ("ENABLE_PUSH of 2", setting(2, 2), Connection(&[PROTOCOL])),
        ("a window above 2^31-1", setting(4, 1 << 31), Connection(&[FLOW_CONTROL, PROTOCOL])),
        ("a frame size of 100", setting(5, 100), Connection(&[PROTOCOL])),
        ("a frame size of 2^24", setting(5, 1 << 24), Connection(&[PROTOCOL])),
        ("a setting that nobody knows", setting(0x4242, 7), Goes),
        // Section 6.9: windows
        ("a connection's window grown by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), Connection(&[PROTOCOL])),
        (
            "a stream's window grown by nothing",
            all(&[open(1), frame(WINDOW_UPDATE, 0, 1, &[0; 4])]),
            Stream(&[PROTOCOL]),
        ),
        (
            "a connection's window too large",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]),
            Connection(&[FLOW_CONTROL]),
        ),
        (
            "a stream's window too large",
            all(&[open(1), frame(WINDOW_UPDATE, 0, 1, &[0x7f, 255, 255, 255])]),
            Stream(&[FLOW_CONTROL]),
        ),
        (
            "a stream's window too large by a setting",
            all(&[open(1), frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0, 0, 0]), setting(4, 0x7fff_ffff)]),
            Connection(&[FLOW_CONTROL]),
        ),
        // Section 6.2 and 6.10: header blocks
        (
            "PRIORITY within a block",
            all(&[frame(HEADERS, 0, 1, &[]), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9])]),
            Connection(&[PROTOCOL]),
        ),
        ("HEADERS within a block", all(&[frame(HEADERS, 0, 1, &[]), get(3)]), Connection(&[PROTOCOL])),
        (
            "an unknown frame within a block",
            all(&[frame(HEADERS, 0, 1, &[]), frame(UNKNOWN, 0, 1, &[])]),
            Connection(&[PROTOCOL]),
        ),
        (
            "another stream's CONTINUATION",
            all(&[frame(HEADERS, 0, 1, &[]), frame(CONTINUATION, 4, 3, &[])]),
            Connection(&[PROTOCOL]),
        ),
        ("an unknown frame", frame(UNKNOWN, 255, 0, b"whatever"), Goes),
        (
            "a block in two frames",
            {
                let block = block(&GET);
                all(&[frame(HEADERS, END_STREAM, 1, &block[..9]), frame(CONTINUATION, END_HEADERS, 1, &block[9..])])
            },
            Goes,
        ),
        // RFC 7541
        ("an index of 0", frame(HEADERS, WHOLE, 1, &[0x80]), Connection(&[COMPRESSION, PROTOCOL])),
        ("an index beyond the table", frame(HEADERS, WHOLE, 1, &[0xff, 0x00]), Connection(&[COMPRESSION, PROTOCOL])),
        ("a block cut within a field", frame(HEADERS, WHOLE, 1, &[0, 5, b'a']), Connection(&[COMPRESSION, PROTOCOL])),
        (
            "a table larger than we allow",
            frame(HEADERS, WHOLE, 1, &[0x3f, 0xe2, 0xff, 0x7f]),
            Connection(&[COMPRESSION, PROTOCOL]),
        ),
        ("a number without an end", frame(HEADERS, WHOLE, 1, &[0xff; 20]), Connection(&[COMPRESSION, PROTOCOL])),
        (
            "padding of Huffman's code that is none",
            frame(HEADERS, WHOLE, 1, &[0, 0x81, 0x00, 0x81, 0x00]),
            Connection(&[COMPRESSION, PROTOCOL]),
        ),
        // Section 8.2 and 8.3: fields and pseudo-headers
        ("no :method", but(":method", None), Stream(&[PROTOCOL])),
        ("no :scheme", but(":scheme", None), Stream(&[PROTOCOL])),
        ("no :path", but(":path", None), Stream(&[PROTOCOL])),
        ("no fields at all", whole(&[]), Stream(&[PROTOCOL])),
        ("an empty :path", but(":path", Some("")), Stream(&[PROTOCOL])),
        ("an empty :method", but(":method", Some("")), Stream(&[PROTOCOL])),
        ("a :path without its slash", but(":path", Some("a")), Stream(&[PROTOCOL])),
        // The h2 crate leaves out the fragment, and so does what goes to the server.
        ("a :path with a fragment", but(":path", Some("/#b")), Goes),
        ("a :path with a blank", but(":path", Some("/a b")), Stream(&[PROTOCOL])),
        ("a :method with a blank", but(":method", Some("GET /")), Stream(&[PROTOCOL])),
        ("an :authority with a user", but(":authority", Some("u@a")), Status(400)),
        ("an :authority with a port that is none", but(":authority", Some("a:99999")), Stream(&[PROTOCOL])),
        ("an empty :authority", but(":authority", Some("")), Stream(&[PROTOCOL])),
        ("two :method", with(":method", "GET"), Stream(&[PROTOCOL])),
        ("two :path", with(":path", "/"), Stream(&[PROTOCOL])),
        ("two :authority", with(":authority", "a"), Stream(&[PROTOCOL])),
        ("a pseudo-header behind a field", whole(&[&[("a", "b")][..], &GET].concat()), Stream(&[PROTOCOL])),
        ("an unknown pseudo-header", with(":what", "x"), Stream(&[PROTOCOL])),
        (":status of a request", with(":status", "200"), Stream(&[PROTOCOL])),
        (":protocol of a GET", with(":protocol", "websocket"), Stream(&[PROTOCOL])),
        (
            "CONNECT with a :path",
            whole(&[(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")]),
            Stream(&[PROTOCOL]),
        ),
        ("CONNECT without an :authority", whole(&[(":method", "CONNECT")]), Stream(&[PROTOCOL])),
        ("an upper case name", with("Abc", "x"), Stream(&[PROTOCOL])),
        ("a name with a blank", with("a b", "x"), Stream(&[PROTOCOL])),
        ("an empty name", with("", "x"), Stream(&[PROTOCOL])),
        ("a value with a line's end", with("a", "b\r\nc: d"), Stream(&[PROTOCOL])),
        ("a value with a zero", with("a", "b\0c"), Stream(&[PROTOCOL])),
        ("connection", with("connection", "close"), Stream(&[PROTOCOL])),
        ("keep-alive", with("keep-alive", "1"), Stream(&[PROTOCOL])),
        ("proxy-connection", with("proxy-connection", "x"), Stream(&[PROTOCOL])),
        ("transfer-encoding", with("transfer-encoding", "chunked"), Stream(&[PROTOCOL])),
        ("upgrade", with("upgrade", "h2c"), Stream(&[PROTOCOL])),
        ("te that is not trailers", with("te", "gzip"), Stream(&[PROTOCOL])),
        ("te: trailers", with("te", "trailers"), Goes),
        ("another host than the authority", with("host", "b"), Status(400)),
        ("a host in place of the authority", whole(&[GET[0], GET[1], GET[3], ("host", "a")]), Goes),
        ("neither host nor authority", but(":authority", None), Status(400)),
        // Section 8.1.1: lengths, and trailers
        ("a body longer than its content-length", sized("1", b"xy"), Stream(&[PROTOCOL])),
        ("a body shorter than its content-length", sized("3", b"xy"), Stream(&[PROTOCOL])),
        ("a content-length without a body", with("content-length", "3"), Stream(&[PROTOCOL])),
        ("a content-length that is no number", sized("2x", b"xy"), Stream(&[PROTOCOL])),
        ("a content-length with a sign", sized("+2", b"xy"), Stream(&[PROTOCOL])),
        (
            "two content-lengths",
            whole(&[&GET[..], &[("content-length", "0"), ("content-length", "0")]].concat()),
            Stream(&[PROTOCOL]),
        ),
        (
            "trailers without the end",
            all(&[open(1), frame(HEADERS, END_HEADERS, 1, &block(&[("a", "b")]))]),
            Stream(&[PROTOCOL]),
        ),
        // The h2 crate leaves out the pseudo-header.
        ("trailers with a pseudo-header", all(&[open(1), frame(HEADERS, WHOLE, 1, &block(&[(":path", "/b")]))]), Goes),
        (
            "trailers that frame",
            all(&[open(1), frame(HEADERS, WHOLE, 1, &block(&[("content-length", "5")]))]),
            Stream(&[PROTOCOL]),
        ),
        (
            "trailers that route",
            all(&[open(1), frame(HEADERS, WHOLE, 1, &block(&[("host", "b")]))]),
            Stream(&[PROTOCOL]),
        ),
        ("trailers", all(&[open(1), frame(HEADERS, WHOLE, 1, &block(&[("a", "b")]))]), Goes),
        // Bounds
        ("too many fields", whole(&[&GET[..], &[("a", "b"); 101]].concat()), Status(431)),
        (
            "a block of many frames",
            {
                let more = vec![frame(CONTINUATION, 0, 1, &block(&[("a", "b"); 100])); 4000].concat();
                all(&[frame(HEADERS, END_STREAM, 1, &block(&GET)), more])
            },
            Connection(&[CALM, PROTOCOL]),
        ),
        (
            "a block of empty frames",
            { all(&[frame(HEADERS, END_STREAM, 1, &block(&GET)), frame(CONTINUATION, 0, 1, &[]).repeat(100_000)]) },
            Connection(&[CALM, PROTOCOL]),
        ),
        ("some empty DATA", all(&[open(1), frame(DATA, 0, 1, b"").repeat(10), frame(DATA, END_STREAM, 1, b"")]), Goes),
        ("much empty DATA", all(&[open(1), frame(DATA, 0, 1, b"").repeat(100_000)]), Connection(&[CALM])),
    ]
}

/// What the tunnel says, in order.
#[derive(Debug, PartialEq)]
pub enum Said {
    Status(u32, u16),
    Reset(u32, u32),
    Goaway(u32),
}

pub struct Client {
    io: TcpStream,
    input: Vec<u8>,
    decoder: Decoder,
}

impl Client {
    async fn new(stage: &Stage) -> Client {
        let mut io = stage.connect().await;
        io.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        Client { io, input: Vec::new(), decoder: Decoder::new() }
    }

    /// The next frame; None: the connection has ended.
    async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        while self.input.len() < 9 || self.input.len() < 9 + self.length() {
            if !matches!(self.io.read_buf(&mut self.input).await, Ok(1..)) {
                return None;
            }
        }
        let frame = self.input.drain(..9 + self.length()).collect::<Vec<_>>();
        let id = u32::from_be_bytes(frame[5..9].try_into().unwrap());
        Some((frame[3], frame[4], id, frame[9..].to_vec()))
    }

    fn length(&self) -> usize {
        usize::from(self.input[0]) << 16 | usize::from(self.input[1]) << 8 | usize::from(self.input[2])
    }

    /// Until there is an end: of the connection, or of stream `last`.
    async fn hear(&mut self, last: u32) -> Vec<Said> {
        let mut said = Vec::new();
        while let Some((kind, flags, id, body)) = self.next().await {
            let code = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
            match kind {
                HEADERS => {
                    let fields = headers::read(&mut self.decoder, &body, Kind::Response).unwrap();
                    said.push(Said::Status(id, fields.status.unwrap()));
                }
                RST_STREAM => said.push(Said::Reset(id, code(0))),
                GOAWAY if code(4) != 0 => said.push(Said::Goaway(code(4))),
                _ => {}
            }
            let over = matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 || kind == RST_STREAM;
            if over && id == last {
                break;
            }
        }
        said
    }
}

impl End {
    fn is(self, said: &[Said]) -> bool {
        match self {
            Connection(codes) => matches!(said.last(), Some(Said::Goaway(code)) if codes.contains(code)),
            Stream(codes) => said.iter().any(|one| match one {
                Said::Reset(1, code) | Said::Goaway(code) => codes.contains(code),
                said => *said == Said::Status(1, 400),
            }),
            Status(status) => said.contains(&Said::Status(1, status)),
            Goes => said.contains(&Said::Status(9, 200)),
        }
    }
}

#[test]
fn each_wrong_frame_has_its_end() {
    let mut wrong = Vec::new();
    for (name, frames, end) in rows() {
        run(async {
            let taken = Rc::new(Cell::new(0));
            let count = taken.clone();
            let server = backend(async move |mut request: Request| {
                let body = crate::http::testing::collect(&mut request.body).await;
                count.set(count.get() + usize::from(body.is_ok()));
                Response::new(StatusCode::OK, "done")
            });
            let stage = Stage::new(vec![rule()]).serve("v1", &[server.await]);
            let mut client = Client::new(&stage).await;
            // What follows a row's end is not read any more.
            let _ = client.io.write_all(&frames).await;
            let last = if matches!(end, Goes) { 9 } else { 1 };
            if matches!(end, Goes) {
                client.io.write_all(&get(9)).await.unwrap();
            }
            let said = client.hear(last).await;
            let reached = matches!(end, Stream(_) | Status(_)) && taken.get() > 0;
            if !end.is(&said) || reached {
                wrong.push(format!("{name}: {said:?} in place of {end:?}, {} at the server", taken.get()));
            }
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_are_as_many_rows_as_names() {
    let names = rows().iter().map(|row| row.0).collect::<std::collections::HashSet<_>>();
    assert!(names.len() == rows().len() && names.len() >= 60, "{}", names.len());
}

/// Asks for answers and reads none: it is read no more when what waits for it is large.
#[test]
fn who_does_not_read_our_answers_is_not_read() {
    let ping = frame(PING, 0, 0, &[7; 8]);
    for (name, one) in [("PING", ping), ("SETTINGS", setting(3, 7)), ("a wrong stream", but(":path", None))] {
        run(async {
            let stage = Stage::new(vec![rule()]).serve("v1", &[echo("one").await]);
            let client = Client::new(&stage).await;
            socket2::SockRef::from(&client.io).set_recv_buffer_size(1).unwrap(); // the least that the kernel has
            let many = one.repeat(1000);
            let (mut sent, mut idle) = (0, 0);
            while idle < 200 && sent < 256 << 20 {
                match client.io.try_write(&many) {
                    Ok(n) => (sent, idle) = (sent + n, 0),
                    Err(error) if error.kind() == WouldBlock => idle += 1,
                    Err(_) => break, // cut off
                }
                yield_now().await;
            }
            assert!(sent < 64 << 20, "{name}: {sent} bytes were taken");
            assert!(stage.get("/").await.contains("one>"), "{name}: others are served");
        });
    }
}

/// A client that grants no window holds no more of an answer than the window of the server's side.
#[test]
fn an_answer_waits_for_its_window() {
    run(async {
        let taken = Rc::new(Cell::new(0));
        let count = taken.clone();
        let server = raw(async move |mut io: TcpStream| {
            crate::http::testing::read_until(&mut io, "\r\n\r\n").await;
            send(&mut io, "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await;
            while let Ok(n) = io.write(&[7; 64 << 10]).await {
                count.set(count.get() + n);
            }
        });
        let stage = Stage::new(vec![rule()]).serve("v1", &[server.await]);
        let mut client = Client::new(&stage).await;
        let frames = [setting(4, 0), get(1)].concat();
        client.io.write_all(&frames).await.unwrap();
        while !matches!(client.next().await.unwrap(), (HEADERS, ..)) {}
        let mut before = usize::MAX;
        while before != taken.get() {
            before = taken.get();
            for _ in 0..500 {
                yield_now().await;
            }
        }
        assert!(taken.get() < 16 << 20, "{} bytes wait", taken.get());
        client.io.write_all(&frame(WINDOW_UPDATE, 0, 1, &5u32.to_be_bytes())).await.unwrap();
        loop {
            let (kind, .., body) = client.next().await.unwrap();
            if kind == DATA && !body.is_empty() {
                assert_eq!(body, [7; 5]);
                break;
            }
        }
    });
}
