//! What a client says first, where that tells which service it means. It stays in the socket.
use crate::decision::Said;
use crate::mesh::NamedIn;
use crate::tls::client_hello::server_name;
use rustix::net::RecvFlags;
use std::io::ErrorKind;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes of a request's head that are looked at, and fields.
const LARGEST: usize = 1 << 14;
const FIELDS: usize = 100;
/// The first byte of a ClientHello (RFC 8446 section 5.1), and of no request.
const HANDSHAKE: u8 = 22;

/// The service that a client names. None: it names none, or speaks another protocol. Waits for the client's first bytes.
pub async fn said(socket: &TcpStream, by: &[NamedIn]) -> Option<Said> {
    let mut first = [0];
    let look = || Ok(rustix::net::recv(socket, &mut first, RecvFlags::PEEK | RecvFlags::DONTWAIT)?.0);
    let seen = socket.async_io(Interest::READABLE, look).await.ok()?;
    let (by, name) = match first[0] {
        HANDSHAKE if seen > 0 && by.contains(&NamedIn::Sni) => (NamedIn::Sni, server_name(socket).await?),
        _ if seen > 0 && by.contains(&NamedIn::Host) => (NamedIn::Host, host(socket).await?),
        _ => return None,
    };
    Some(Said { name: name.trim_end_matches('.').to_ascii_lowercase(), by })
}

/// Of an HTTP/1.1 request, without its port.
async fn host(socket: &TcpStream) -> Option<String> {
    let mut seen = vec![0; LARGEST];
    let look = || {
        let (n, _) = rustix::net::recv(socket, &mut seen[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        match Head::read(&seen[..n]) {
            Head::Whole(host) => Ok(host),
            // Until there is more: of the same bytes the poller tells once.
            Head::Partial if (1..LARGEST).contains(&n) => Err(ErrorKind::WouldBlock.into()),
            Head::Partial | Head::Other => Ok(None),
        }
    };
    socket.async_io(Interest::READABLE, look).await.ok().flatten()
}

/// The beginning of what a client says.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    Partial,
    Whole(Option<String>),
    Other,
}

impl Head {
    fn read(beginning: &[u8]) -> Head {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(beginning) {
            Ok(httparse::Status::Partial) => Head::Partial,
            Ok(httparse::Status::Complete(_)) => Head::Whole(named_by(&request)),
            Err(_) => Head::Other,
        }
    }
}

/// A target in absolute form counts before Host (RFC 9112 section 3.2.2); of several Hosts none does.
fn named_by(request: &httparse::Request<'_, '_>) -> Option<String> {
    let target: Option<http::Uri> = request.path.and_then(|path| path.parse().ok());
    if let Some(host) = target.as_ref().and_then(|target| target.host()) {
        return Some(host.to_owned());
    }
    let mut hosts = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    let (host, None) = (hosts.next()?, hosts.next()) else { return None };
    let authority: http::uri::Authority = std::str::from_utf8(host.value).ok()?.trim().parse().ok()?;
    Some(authority.host().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_read_when_the_head_is_whole() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: Api.Example\r\n\r\n", Some("Api.Example")),
            ("GET / HTTP/1.1\r\nhost:  api.example:8080 \r\nAccept: x\r\n\r\nbody", Some("api.example")),
            ("GET http://api.example:80/a HTTP/1.1\r\nHost: other\r\n\r\n", Some("api.example")),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", None),
            ("GET / HTTP/1.0\r\n\r\n", None),
        ] {
            assert_eq!(Head::read(head.as_bytes()), Head::Whole(expected.map(str::to_owned)), "{head:?}");
            let end = head.find("\r\n\r\n").unwrap();
            assert_eq!(Head::read(&head.as_bytes()[..end]), Head::Partial);
        }
        for other in ["SSH-2.0-x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0"] {
            assert_ne!(Head::read(other.as_bytes()), Head::Partial, "{other:?}");
        }
    }
}
