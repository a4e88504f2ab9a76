//! What a client that speaks TLS says before anybody answers.

use std::io::ErrorKind;

use rustix::net::RecvFlags;
use rustls::server::Acceptor;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes that are looked at; who means no harm needs less.
const LARGEST: usize = 1 << 16;

/// The server that a client names, who may have said all of it already; what it said stays in the socket. None: it names none,
/// or does not speak TLS.
pub async fn server_name(socket: &TcpStream) -> Option<String> {
    let mut seen = vec![0; LARGEST];
    let look = || {
        let (n, _) = rustix::net::recv(socket, &mut seen[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        match named(&seen[..n]) {
            Some(name) => Ok(name),
            // Until there is more: of the same bytes the poller tells once.
            None if n > 0 => Err(ErrorKind::WouldBlock.into()),
            None => Ok(None),
        }
    };
    socket.async_io(Interest::READABLE, look).await.ok().flatten()
}

/// The same of the beginning of what a client says; None: there has to be more of it.
pub fn named(beginning: &[u8]) -> Option<Option<String>> {
    match Hello::read(beginning) {
        Hello::Whole(name) => Some(name),
        Hello::Partial if beginning.len() < LARGEST => None,
        Hello::Partial | Hello::Other => Some(None),
    }
}

/// The beginning of what a client says.
#[derive(Debug, PartialEq, Eq)]
pub enum Hello {
    /// It is not whole yet.
    Partial,
    /// With the server that it names, if it does.
    Whole(Option<String>),
    /// It is something else.
    Other,
}

impl Hello {
    pub fn read(mut beginning: &[u8]) -> Hello {
        let mut acceptor = Acceptor::default();
        while !beginning.is_empty() {
            if acceptor.read_tls(&mut beginning).is_err() {
                return Hello::Other;
            }
            match acceptor.accept() {
                Ok(Some(accepted)) => return Hello::Whole(accepted.client_hello().server_name().map(str::to_owned)),
                Ok(None) => {}
                Err(_) => return Hello::Other,
            }
        }
        Hello::Partial
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let mut client = ClientConnection::new(config.into(), name.to_owned().try_into().unwrap()).unwrap();
        let mut bytes = vec![];
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_name_is_read_when_the_hello_is_whole() {
        let bytes = hello("a.example.com");
        for end in 0..bytes.len() {
            assert_eq!(Hello::read(&bytes[..end]), Hello::Partial, "{end} of {} bytes", bytes.len());
        }
        assert_eq!(Hello::read(&bytes), Hello::Whole(Some("a.example.com".into())));
        assert_eq!(Hello::read(&hello("10.0.0.1")), Hello::Whole(None));
    }

    #[test]
    fn other_protocols_are_told_apart() {
        for other in ["GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n"] {
            assert_eq!(Hello::read(other.as_bytes()), Hello::Other, "{other:?}");
        }
    }
}
