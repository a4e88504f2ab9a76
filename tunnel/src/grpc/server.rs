//! Who is called, and how a connection to it begins.
use super::Status;
use crate::sys::sockets;
use crate::tls::originate::{self, Terms};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::uri::{Authority, Scheme};
use rustls::ClientConfig;
use socket2::SockRef;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// What a server may send before it is read, of one call and of all.
const CALL_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;
/// Bytes of header fields.
const LONGEST_HEAD: u32 = 16 << 10;
/// A server that vanished is noticed: silent for so long it is asked, so often; what it does not acknowledge ends the connection.
const SILENT: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_secs(5);
const VANISHED: Duration = Duration::from_secs(45);

pub struct Server {
    place: Place,
    pub authority: Authority,
}

enum Place {
    Unix(PathBuf),
    Plain,
    Tls(Arc<ClientConfig>),
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

impl Server {
    /// As [`Channel::new`](super::Channel::new).
    pub fn new(url: &str, roots: Option<&[u8]>) -> Result<Server, String> {
        if let Some(path) = url.strip_prefix("unix:") {
            return Ok(Server { place: Place::Unix(path.into()), authority: Authority::from_static("localhost") });
        }
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let place = match scheme {
            "http" => Place::Plain,
            "https" => Place::Tls(
                Terms { roots, crl: b"", client: None, subject_alt_names: &[], verify: true, http2: true }.config()?,
            ),
            _ => return Err(format!("{url:?} is neither unix:PATH nor https://HOST:PORT")),
        };
        let authority: Option<Authority> = rest.parse().ok();
        let authority = authority.filter(|authority| authority.port_u16().is_some());
        Ok(Server { place, authority: authority.ok_or_else(|| format!("{rest:?} is no HOST:PORT"))? })
    }

    pub fn scheme(&self) -> Scheme {
        match self.place {
            Place::Tls(_) => Scheme::HTTPS,
            _ => Scheme::HTTP,
        }
    }

    /// Its connection lives as long as somebody has what is given here, or a call of it.
    pub async fn connect(&self) -> Result<SendRequest<Bytes>, Status> {
        let socket = self.socket().await.map_err(|why| Status::unavailable(format!("no connection: {why}")))?;
        let mut builder = Builder::new();
        builder.enable_push(false).max_header_list_size(LONGEST_HEAD);
        builder.initial_window_size(CALL_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = builder.handshake(socket).await?;
        tokio::spawn(connection); // calls tell of errors
        Ok(sender)
    }

    async fn socket(&self) -> Result<Box<dyn Socket>, String> {
        let text = |error: std::io::Error| error.to_string();
        Ok(match &self.place {
            Place::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(text)?),
            Place::Plain => Box::new(self.tcp().await.map_err(text)?),
            Place::Tls(config) => {
                let socket = self.tcp().await.map_err(text)?;
                let stream = originate::connect(config.clone(), self.host(), socket).await;
                Box::new(stream.map_err(|failure| format!("TLS: {failure}"))?)
            }
        })
    }

    async fn tcp(&self) -> std::io::Result<TcpStream> {
        let port = self.authority.port_u16().unwrap_or_default();
        let socket = TcpStream::connect((self.host(), port)).await?;
        socket.set_nodelay(true)?;
        sockets::keep_alive_as(&socket, Some(SILENT), Some(ASK_EVERY), None);
        SockRef::from(&socket).set_tcp_user_timeout(Some(VANISHED))?;
        Ok(socket)
    }

    /// Without an IPv6 address' brackets.
    fn host(&self) -> &str {
        self.authority.host().trim_matches(['[', ']'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_or_what_is_wrong_with_it() {
        for (url, host) in [
            ("unix:/run/x", "localhost"),
            ("http://[::1]:1", "::1"),
            ("http://istiod.istio-system.svc:15010", "istiod.istio-system.svc"),
        ] {
            assert_eq!(Server::new(url, None).unwrap().host(), host);
        }
        for (url, reason) in [
            ("istiod:15012", "is neither unix:PATH nor"),
            ("http://istiod", "is no HOST:PORT"),
            ("http://a b:1", "is no HOST:PORT"),
        ] {
            assert!(Server::new(url, None).err().unwrap().contains(reason));
        }
        assert_eq!(Server::new("https://a:1", Some(b"")).err().unwrap(), "the CA: no PEM certificate in it");
    }
}
