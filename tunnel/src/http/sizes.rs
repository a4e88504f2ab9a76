//! How much a request or a response was: bytes, and messages of gRPC. A body whose length is known beforehand is not looked
//! at; another one is counted as it passes.
use super::body::{Body, Frame, Next, Source};
use crate::base::sink::{Relayed, Sink};
use http::HeaderMap;
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{ready, Context, Poll};

/// Of one body.
#[derive(Debug, Default)]
pub struct Size {
    bytes: Cell<u64>,
    /// Of gRPC.
    messages: Cell<u64>,
    /// gRPC's, where trailers told it.
    status: Cell<Option<u16>>,
}

impl Size {
    /// Counts a body from here on.
    pub fn of(body: &mut Body, grpc: bool) -> Rc<Size> {
        let size = Rc::new(Size::default());
        let mut frames = grpc.then(Frames::default);
        match &*body {
            Body::Empty => {}
            Body::Full(bytes) | Body::Arrived(bytes) => size.passed(bytes, &mut frames),
            Body::Stream { length: Some(length), .. } if !grpc => size.bytes.set(*length),
            Body::Stream { length, .. } => {
                let (length, whole) = (*length, std::mem::take(body));
                *body = Body::stream(length, Counted { body: whole, size: size.clone(), frames, sink: None });
            }
        }
        size
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    pub fn messages(&self) -> u64 {
        self.messages.get()
    }

    pub fn status(&self) -> Option<u16> {
        self.status.get()
    }

    fn passed(&self, bytes: &[u8], frames: &mut Option<Frames>) {
        self.add(bytes.len());
        if let Some(frames) = frames {
            self.messages.set(self.messages.get() + frames.count(bytes));
        }
    }

    fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }
}

/// Names and values, as Envoy counts them.
pub fn of_headers(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

/// `grpc-status` in trailers, or in a head that has no body.
pub fn grpc_status(fields: &HeaderMap) -> Option<u16> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Where the messages of gRPC begin: each has a head of 5 bytes, a flag and the length of the rest.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; 5],
    /// Bytes of the head that are here.
    known: usize,
    /// Bytes of the message that are to come.
    left: u64,
}

impl Frames {
    /// How many messages begin in these bytes.
    fn count(&mut self, mut bytes: &[u8]) -> u64 {
        let mut begun = 0;
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len() as u64);
                self.left -= passed;
                bytes = &bytes[passed as usize..];
                continue;
            }
            self.head[self.known] = bytes[0];
            self.known += 1;
            bytes = &bytes[1..];
            if self.known == self.head.len() {
                let [_, length @ ..] = self.head;
                self.left = u32::from_be_bytes(length).into();
                self.known = 0;
                begun += 1;
            }
        }
        begun
    }
}

struct Counted {
    body: Body,
    size: Rc<Size>,
    frames: Option<Frames>,
    /// While it is relayed.
    sink: Option<Rc<dyn Sink>>,
}

impl Source for Counted {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let next = ready!(self.body.poll_frame(cx));
        match &next {
            Some(Ok(Frame::Data(bytes))) => self.size.passed(bytes, &mut self.frames),
            Some(Ok(Frame::Trailers(trailers))) => self.size.status.set(grpc_status(trailers)),
            Some(Err(_)) | None => {}
        }
        Poll::Ready(next)
    }

    /// Messages of gRPC are read.
    fn poll_relay(&mut self, cx: &mut Context<'_>, to: &Rc<dyn Sink>) -> Poll<Relayed> {
        let Body::Stream { source, .. } = &mut self.body else { return Poll::Ready(Relayed::Unable) };
        if self.frames.is_some() {
            return Poll::Ready(Relayed::Unable);
        }
        let size = &self.size;
        let sink = self.sink.get_or_insert_with(|| Rc::new(Passing { to: to.clone(), size: size.clone() }));
        source.poll_relay(cx, sink)
    }
}

/// Counts what is written.
struct Passing {
    to: Rc<dyn Sink>,
    size: Rc<Size>,
}

impl Sink for Passing {
    fn poll_write(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = ready!(self.to.poll_write(cx, parts));
        if let Ok(bytes) = written {
            self.size.add(bytes);
        }
        Poll::Ready(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::collections::VecDeque;

    struct Pieces(VecDeque<Frame>);

    impl Source for Pieces {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Next> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn read(body: &mut Body) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { while body.frame().await.is_some() {} });
    }

    fn message(length: usize) -> Vec<u8> {
        [&[0][..], &(length as u32).to_be_bytes(), &vec![7; length]].concat()
    }

    #[test]
    fn a_length_that_is_known_is_believed_and_the_body_left_alone() {
        let mut body = Body::from(Bytes::from_static(b"12345"));
        let size = Size::of(&mut body, false);
        assert!(body.is_here());
        assert_eq!(size.bytes(), 5);
    }

    #[test]
    fn what_passes_is_counted_and_so_are_messages_however_they_are_cut() {
        let whole = [message(3), message(0), message(1000)].concat();
        for cut in [1, 4, 7, whole.len()] {
            let mut frames: VecDeque<_> =
                whole.chunks(cut).map(|piece| Frame::Data(Bytes::copy_from_slice(piece))).collect();
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "7".parse().unwrap())]);
            frames.push_back(Frame::Trailers(trailers));
            let mut body = Body::stream(None, Pieces(frames));
            let size = Size::of(&mut body, true);
            read(&mut body);
            assert_eq!((size.bytes(), size.messages(), size.status()), (whole.len() as u64, 3, Some(7)), "{cut}");
        }
    }
}
