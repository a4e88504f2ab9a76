//! For tests of this room: a thread's runtime, and connections over loopback.
use super::io::Io;
use super::{Body, BodyError, Frame};
use bytes::BytesMut;
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

/// As a worker runs it.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, future).await.expect("it hangs") })
}

/// With a clock that jumps to the next timer whenever nothing else can happen.
pub fn run_paused<T>(future: impl Future<Output = T>) -> T {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().start_paused(true).build_local(LocalOptions::default()).unwrap().block_on(future)
}

/// Both ends of a connection.
pub async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

/// Reads until there is `text`, and gives all that was read.
pub async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = BytesMut::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "no {text:?} in {read:?}");
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// What there is until the end, even where that is an error.
pub async fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut read = Vec::new();
    let proper = stream.read_to_end(&mut read).await.is_ok();
    (read, proper)
}

pub async fn send(stream: &mut TcpStream, text: impl AsRef<[u8]>) {
    stream.write_all(text.as_ref()).await.unwrap();
}

pub async fn abort(mut stream: TcpStream) {
    stream.reset();
}

/// A body's bytes.
pub async fn collect(body: &mut Body) -> Result<Vec<u8>, BodyError> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Frame::Data(bytes) = frame? {
            all.extend_from_slice(&bytes);
        }
    }
    Ok(all)
}
