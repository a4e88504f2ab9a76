//! Request smuggling and malformed heads: each row is what a client sends, and what must become of it.
use super::super::head::Finder;
use super::super::serve;
use crate::http::settings::Limits;
use crate::http::testing::{collect, pair, read_to_end, run, send};
use crate::http::{Drain, Request, Response, Server, Settings};
use bytes::BytesMut;
use http::StatusCode;
use std::cell::RefCell;
use tokio::io::AsyncWriteExt;

enum End {
    /// Nothing goes on; this status, and the connection ends.
    Refused(u16),
    /// The head goes on, but its body never ends properly.
    Broken,
    /// Requests go on, with these targets and bodies.
    Pass(&'static [&'static str]),
}
use End::{Broken, Pass, Refused};

/// Targets and bodies that reached the handler, and the client's view.
async fn outcome(sent: &[u8]) -> (Vec<String>, String) {
    let (mut client, io) = pair().await;
    let seen = RefCell::new(Vec::new());
    let server = Server { settings: Settings::default(), default_host: None, drain: Drain::default() };
    let handle = async |mut request: Request| {
        let body = collect(&mut request.body).await;
        let body = body.map_or_else(|error| format!("{error:?}"), |body| String::from_utf8_lossy(&body).into_owned());
        seen.borrow_mut().push(format!("{} {}{} {body}", request.method, request.authority, request.path));
        Response::new(StatusCode::OK, "")
    };
    let asking = async {
        send(&mut client, sent).await;
        client.shutdown().await.unwrap();
        read_to_end(&mut client).await.0
    };
    let (read, ()) = tokio::join!(asking, serve(io, bytes::Bytes::new(), &server, handle));
    (seen.take(), String::from_utf8_lossy(&read).into_owned())
}

fn check(rows: &[(&str, &[u8], End)]) {
    let mut wrong = Vec::new();
    for (name, sent, end) in rows {
        let (seen, answer) = run(outcome(sent));
        let right = match end {
            Refused(status) => {
                seen.is_empty()
                    && answer.starts_with(&format!("HTTP/1.1 {status} "))
                    && answer.contains("connection: close")
            }
            Broken => seen.len() == 1 && (seen[0].ends_with("Malformed") || seen[0].ends_with("Incomplete")),
            Pass(expected) => seen == *expected,
        };
        if !right {
            wrong.push(format!("{name}: {seen:?} {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn two_lengths() {
    check(&[
        (
            "CL and TE",
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nX",
            Refused(400),
        ),
        (
            "TE and CL",
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n1\r\nX\r\n0\r\n\r\n",
            Refused(400),
        ),
        (
            "TE and CL of 0",
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n",
            Refused(400),
        ),
        (
            "different CLs",
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nXY",
            Refused(400),
        ),
        ("equal CLs", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nX", Refused(400)),
        ("list of CLs", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\nX", Refused(400)),
        ("CL with a sign", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nX", Refused(400)),
        ("negative CL", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\nX", Refused(400)),
        ("hexadecimal CL", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x1\r\n\r\nX", Refused(400)),
        ("empty CL", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \r\n\r\nX", Refused(400)),
        ("CL with a blank", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1 0\r\n\r\nX", Refused(400)),
        ("CL with an underscore", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1_0\r\n\r\nX", Refused(400)),
        ("CL with a fraction", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1.0\r\n\r\nX", Refused(400)),
        (
            "CL beyond 64 bits",
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551617\r\n\r\nX",
            Refused(400),
        ),
        (
            "CL beyond 63 bits",
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9223372036854775808\r\n\r\nX",
            Refused(400),
        ),
        (
            "CL in other digits",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \u{0661}\r\n\r\nX".as_bytes(),
            Refused(400),
        ),
        ("CL with a vertical tab", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \x0b1\r\n\r\nX", Refused(400)),
        ("CL with zeros", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 001\r\n\r\nX", Pass(&["POST a/ X"])),
        ("CL in capitals", b"POST / HTTP/1.1\r\nhost: a\r\nCONTENT-LENGTH: 1\r\n\r\nX", Pass(&["POST a/ X"])),
        (
            "Connection names CL",
            b"POST / HTTP/1.1\r\nhost: a\r\nconnection: content-length\r\ncontent-length: 1\r\n\r\nX",
            Refused(400),
        ),
        (
            "GET with a body",
            b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nXGET /2 HTTP/1.1\r\nhost: a\r\n\r\n",
            Pass(&["GET a/ X", "GET a/2 "]),
        ),
        ("CL longer than what comes", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nX", Broken),
    ]);
}

#[test]
fn transfer_codings() {
    check(&[
        ("chunked", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nX\r\n0\r\n\r\n", Pass(&["POST a/ X"])),
        ("Chunked", b"POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nX\r\n0\r\n\r\n", Pass(&["POST a/ X"])),
        ("twice", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Refused(400)),
        ("twice in one", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n", Refused(501)),
        ("identity", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n", Refused(501)),
        ("identity and CL", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\ncontent-length: 1\r\n\r\nX", Refused(400)),
        ("gzip", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Refused(501)),
        ("gzip before chunked", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Refused(400)),
        ("chunked before identity", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", Refused(501)),
        ("xchunked", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", Refused(501)),
        ("quoted", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Refused(501)),
        ("with a parameter", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n", Refused(501)),
        ("with a vertical tab", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n", Refused(400)),
        ("with a NUL", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\0\r\n\r\n0\r\n\r\n", Refused(400)),
        ("with a leading comma", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: , chunked\r\n\r\n0\r\n\r\n", Refused(501)),
        ("empty", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n\r\n0\r\n\r\n", Refused(501)),
        ("a blank before the colon", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n", Refused(400)),
        ("a tab before the colon", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding\t: chunked\r\n\r\n0\r\n\r\n", Refused(400)),
        ("folded", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Refused(400)),
        ("in HTTP/1.0", b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Refused(400)),
        ("named by Connection", b"POST / HTTP/1.1\r\nhost: a\r\nconnection: transfer-encoding\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Refused(400)),
        ("underscored is another field", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer_encoding: chunked\r\ncontent-length: 1\r\n\r\nX", Pass(&["POST a/ X"])),
    ]);
}

fn chunked(body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}").into_bytes()
}

#[test]
fn chunks() {
    let long = format!("1;{}\r\nX\r\n0\r\n\r\n", "e".repeat(300));
    let many = format!("{}0\r\n\r\n", format!("1;{}\r\nX\r\n", "e".repeat(200)).repeat(100));
    let trailers = format!("0\r\n{}\r\n", "t: u\r\n".repeat(65));
    let rows: &[(&str, &str, End)] = &[
        ("extension", "1;a=b\r\nX\r\n0;c\r\n\r\n", Pass(&["POST a/ X"])),
        ("capital digits", "A\r\n0123456789\r\n0\r\n\r\n", Pass(&["POST a/ 0123456789"])),
        ("several zeros", "1\r\nX\r\n000\r\n\r\n", Pass(&["POST a/ X"])),
        ("trailers", "1\r\nX\r\n0\r\nt: u\r\n\r\n", Pass(&["POST a/ X"])),
        ("no size", "\r\nX\r\n0\r\n\r\n", Broken),
        ("size with a sign", "+1\r\nX\r\n0\r\n\r\n", Broken),
        ("negative size", "-1\r\nX\r\n0\r\n\r\n", Broken),
        ("size with 0x", "0x1\r\nX\r\n0\r\n\r\n", Broken),
        ("size with an underscore", "1_0\r\nX\r\n0\r\n\r\n", Broken),
        ("a blank before the size", " 1\r\nX\r\n0\r\n\r\n", Broken),
        ("a blank behind the size", "1 \r\nX\r\n0\r\n\r\n", Broken),
        ("a tab behind the size", "1\t;a\r\nX\r\n0\r\n\r\n", Broken),
        ("size of 17 digits", "00000000000000001\r\nX\r\n0\r\n\r\n", Broken),
        ("size beyond 63 bits", "8000000000000000\r\nX\r\n0\r\n\r\n", Broken),
        ("size line ends in LF", "1\nX\r\n0\r\n\r\n", Broken),
        ("size line ends in CR", "1\rX\r\n0\r\n\r\n", Broken),
        ("LF in an extension", "1;a\nb\r\nX\r\n0\r\n\r\n", Broken),
        ("CR in an extension", "1;a\rb\r\nX\r\n0\r\n\r\n", Broken),
        ("NUL in an extension", "1;a\0b\r\nX\r\n0\r\n\r\n", Broken),
        ("long extension", &long, Broken),
        ("many extensions", &many, Broken),
        ("data longer than the size", "1\r\nXY\r\n0\r\n\r\n", Broken),
        ("data ends in LF", "1\r\nX\n0\r\n\r\n", Broken),
        ("data without an end", "1\r\nX0\r\n\r\n", Broken),
        ("no last chunk", "1\r\nX\r\n", Broken),
        ("end without an empty line", "1\r\nX\r\n0\r\n", Broken),
        ("two CRs", "1\r\r\nX\r\n0\r\n\r\n", Broken),
        ("Content-Length as trailer", "1\r\nX\r\n0\r\ncontent-length: 5\r\n\r\n", Broken),
        ("Transfer-Encoding as trailer", "1\r\nX\r\n0\r\ntransfer-encoding: chunked\r\n\r\n", Broken),
        ("Host as trailer", "1\r\nX\r\n0\r\nhost: b\r\n\r\n", Broken),
        ("folded trailer", "1\r\nX\r\n0\r\nt: u\r\n v\r\n\r\n", Broken),
        ("trailer ends in LF", "1\r\nX\r\n0\r\nt: u\n\r\n\r\n", Broken),
        ("too many trailers", &trailers, Broken),
    ];
    for (name, body, end) in rows {
        let end = match end {
            Pass(expected) => Pass(expected),
            _ => Broken,
        };
        check(&[(name, &chunked(body), end)]);
    }
}

#[test]
fn hosts_and_targets() {
    check(&[
        ("no Host", b"GET / HTTP/1.1\r\n\r\n", Refused(400)),
        ("two Hosts", b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", Refused(400)),
        ("one Host twice", b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", Refused(400)),
        ("empty Host", b"GET / HTTP/1.1\r\nhost:\r\n\r\n", Refused(400)),
        ("Host of someone", b"GET / HTTP/1.1\r\nhost: u@a\r\n\r\n", Refused(400)),
        ("Host with a path", b"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", Refused(400)),
        ("Host with a blank", b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n", Refused(400)),
        ("Hosts in a list", b"GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", Refused(400)),
        ("Host without a port's number", b"GET / HTTP/1.1\r\nhost: a:\r\n\r\n", Refused(400)),
        ("Host with a wrong port", b"GET / HTTP/1.1\r\nhost: a:x\r\n\r\n", Refused(400)),
        ("Host with too large a port", b"GET / HTTP/1.1\r\nhost: a:65536\r\n\r\n", Refused(400)),
        ("Host with two ports", b"GET / HTTP/1.1\r\nhost: a:1:2\r\n\r\n", Refused(400)),
        ("Host named by Connection", b"GET / HTTP/1.1\r\nhost: a\r\nconnection: host\r\n\r\n", Refused(400)),
        ("Host folded", b"GET / HTTP/1.1\r\nhost: a\r\n b\r\n\r\n", Refused(400)),
        ("Host with a blank before the colon", b"GET / HTTP/1.1\r\nhost : a\r\n\r\n", Refused(400)),
        ("Host and port", b"GET / HTTP/1.1\r\nhost: a:80\r\n\r\n", Pass(&["GET a:80/ "])),
        ("IPv6", b"GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", Pass(&["GET [::1]:80/ "])),
        ("absolute form", b"GET http://a/b HTTP/1.1\r\nhost: a\r\n\r\n", Pass(&["GET a/b "])),
        ("absolute form, query only", b"GET http://a?b HTTP/1.1\r\nhost: a\r\n\r\n", Pass(&["GET a/?b "])),
        ("absolute form, other Host", b"GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n", Refused(400)),
        ("absolute form, no Host", b"GET http://a/ HTTP/1.1\r\n\r\n", Refused(400)),
        ("absolute form of someone", b"GET http://u@a/ HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("absolute form of another scheme", b"GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("absolute form without a host", b"GET http:///b HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("relative target", b"GET b HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("fragment", b"GET /#f HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("asterisk", b"GET * HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", Pass(&["OPTIONS a* "])),
        ("CONNECT to a path", b"CONNECT /a HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("CONNECT without a port", b"CONNECT a HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("CONNECT to another Host", b"CONNECT a:80 HTTP/1.1\r\nhost: b:80\r\n\r\n", Refused(400)),
        ("authority form", b"GET a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", Refused(400)),
        ("a byte beyond ASCII", b"GET /\xe9 HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("a blank in the target", b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("two blanks", b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("a tab", b"GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("HTTP/1.0 without Host", b"GET / HTTP/1.0\r\n\r\n", Refused(400)),
    ]);
}

#[test]
fn lines_and_fields() {
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nb: {}\r\n\r\n", "c".repeat(61 << 10));
    let endless = format!("GET / HTTP/1.1\r\nhost: a\r\nb: {}", "c".repeat(61 << 10));
    let target = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "c".repeat(61 << 10));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "b: c\r\n".repeat(100));
    let most = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "b: c\r\n".repeat(99));
    let very_many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "b:c\r\n".repeat(2000));
    check(&[
        ("lines that end in LF", b"GET / HTTP/1.1\nhost: a\n\n", Refused(400)),
        ("one line that ends in LF", b"GET / HTTP/1.1\r\nhost: a\nb: c\r\n\r\n", Refused(400)),
        ("an end in LF", b"GET / HTTP/1.1\r\nhost: a\r\n\n", Refused(400)),
        ("a leading LF", b"\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("a leading CR", b"\rGET / HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("a leading blank", b" GET / HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("empty lines before", b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Pass(&["GET a/ "])),
        ("CR in a value", b"GET / HTTP/1.1\r\nhost: a\r\nb: c\rd: e\r\n\r\n", Refused(400)),
        ("CR before CRLF", b"GET / HTTP/1.1\r\nhost: a\r\r\n\r\n", Refused(400)),
        ("CR in the target", b"GET /\r HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("NUL in a value", b"GET / HTTP/1.1\r\nhost: a\r\nb: \0\r\n\r\n", Refused(400)),
        ("NUL in a name", b"GET / HTTP/1.1\r\nhost: a\r\nb\0: c\r\n\r\n", Refused(400)),
        ("NUL in the target", b"GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("a control character in a value", b"GET / HTTP/1.1\r\nhost: a\r\nb: \x01\r\n\r\n", Refused(400)),
        ("DEL in a value", b"GET / HTTP/1.1\r\nhost: a\r\nb: \x7f\r\n\r\n", Refused(400)),
        ("a folded value", b"GET / HTTP/1.1\r\nhost: a\r\nb: c\r\n\td\r\n\r\n", Refused(400)),
        ("a first line folded", b"GET / HTTP/1.1\r\n host: a\r\n\r\n", Refused(400)),
        ("no colon", b"GET / HTTP/1.1\r\nhost: a\r\nb\r\n\r\n", Refused(400)),
        ("no name", b"GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n", Refused(400)),
        ("a name with a blank", b"GET / HTTP/1.1\r\nhost: a\r\nb c: d\r\n\r\n", Refused(400)),
        ("a name in quotes", b"GET / HTTP/1.1\r\nhost: a\r\n\"b\": d\r\n\r\n", Refused(400)),
        ("a name beyond ASCII", b"GET / HTTP/1.1\r\nhost: a\r\n\xe9: d\r\n\r\n", Refused(400)),
        ("a pseudo field", b"GET / HTTP/1.1\r\nhost: a\r\n:path: /b\r\n\r\n", Refused(400)),
        ("an empty value", b"GET / HTTP/1.1\r\nhost: a\r\nb:\r\n\r\n", Pass(&["GET a/ "])),
        ("a value beyond ASCII", b"GET / HTTP/1.1\r\nhost: a\r\nb: \xe9\r\n\r\n", Pass(&["GET a/ "])),
        ("HTTP/0.9", b"GET /\r\n\r\n", Refused(400)),
        ("HTTP/1.2", b"GET / HTTP/1.2\r\nhost: a\r\n\r\n", Refused(400)),
        ("HTTP/2.0", b"GET / HTTP/2.0\r\nhost: a\r\n\r\n", Refused(400)),
        ("http/1.1", b"GET / http/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("HTTP/1.10", b"GET / HTTP/1.10\r\nhost: a\r\n\r\n", Refused(400)),
        ("HTTP/01.1", b"GET / HTTP/01.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("a blank behind the version", b"GET / HTTP/1.1 \r\nhost: a\r\n\r\n", Refused(400)),
        ("no method", b" / HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("a method with a colon", b"GE:T / HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
        ("a head that does not end", b"GET / HTTP/1.1\r\nhost: a\r\n", Refused(400)),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", Refused(400)),
        ("a large head", large.as_bytes(), Refused(431)),
        ("a head without end", endless.as_bytes(), Refused(431)),
        ("a large target", target.as_bytes(), Refused(431)),
        ("101 fields", many.as_bytes(), Refused(431)),
        ("100 fields", most.as_bytes(), Pass(&["GET a/ "])),
        ("2001 fields", very_many.as_bytes(), Refused(431)),
        ("garbage behind a request", b"GET / HTTP/1.1\r\nhost: a\r\n\r\ngarbage\r\n\r\n", Pass(&["GET a/ "])),
        ("h2c is not switched to", b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n", Pass(&["GET a/ "])),
    ]);
}

#[test]
fn empty_lines_before_a_head_are_passed_over_however_they_arrive() {
    let sent = b"\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\nGET /2 HTTP/1.1\r\n\r\n";
    for size in 1..sent.len() {
        let (mut finder, mut input, mut heads) = (Finder::default(), BytesMut::new(), Vec::new());
        for piece in sent.chunks(size) {
            input.extend_from_slice(piece);
            while let Some(head) = finder.take(&mut input, Limits::default()).unwrap() {
                heads.push(head);
            }
        }
        assert_eq!(heads, [&b"GET / HTTP/1.1\r\n\r\n"[..], b"GET /2 HTTP/1.1\r\n\r\n"], "in pieces of {size}");
    }
}
