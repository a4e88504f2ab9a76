//! What follows a head: nothing, bytes that are here, or bytes that are still to come.
use crate::base::sink::{Relayed, Sink};
use bytes::Bytes;
use http::HeaderMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

#[derive(Debug)]
pub enum Frame {
    Data(Bytes),
    /// The last one, where there is one.
    Trailers(HeaderMap),
}

/// Why a body has no proper end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The peer closed before the end that it had told of.
    Incomplete,
    /// The peer broke off: TCP's RST, HTTP/2's RST_STREAM.
    Reset,
    /// It is not framed as HTTP says.
    Malformed,
}

pub type Next = Option<Result<Frame, BodyError>>;

/// Gives a body piece by piece; only when asked, so that a slow reader slows its writer.
pub trait Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next>;

    /// Has the rest of it written to `to` as it comes, where that needs no frames. Begun, it goes on to its end.
    fn poll_relay(&mut self, _: &mut Context<'_>, _: &Rc<dyn Sink>) -> Poll<Relayed> {
        Poll::Ready(Relayed::Unable)
    }
}

#[derive(Default)]
pub enum Body {
    #[default]
    Empty,
    Full(Bytes),
    /// All of it is here as well, but nobody has told how long it is: it goes on framed as one that is still to come.
    Arrived(Bytes),
    /// `length` in bytes, where it is known beforehand.
    Stream {
        length: Option<u64>,
        source: Box<dyn Source>,
    },
}

impl Body {
    pub fn stream(length: Option<u64>, source: impl Source + 'static) -> Body {
        Body::Stream { length, source: Box::new(source) }
    }

    pub fn length(&self) -> Option<u64> {
        match self {
            Body::Empty => Some(0),
            Body::Full(bytes) => Some(bytes.len() as u64),
            Body::Arrived(_) => None,
            Body::Stream { length, .. } => *length,
        }
    }

    /// Whether all of it is here: such a body can be sent again.
    pub fn is_here(&self) -> bool {
        !matches!(self, Body::Stream { .. })
    }

    /// Another of the same bytes, where they are here.
    pub fn again(&self) -> Option<Body> {
        match self {
            Body::Empty => Some(Body::Empty),
            Body::Full(bytes) => Some(Body::Full(bytes.clone())),
            Body::Arrived(bytes) => Some(Body::Arrived(bytes.clone())),
            Body::Stream { .. } => None,
        }
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        match self {
            Body::Empty => Poll::Ready(None),
            Body::Full(bytes) | Body::Arrived(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Body::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(Frame::Data(bytes))))
            }
            Body::Stream { source, .. } => source.poll_frame(cx),
        }
    }

    /// As `Source`'s.
    pub async fn relay(&mut self, to: &Rc<dyn Sink>) -> Relayed {
        let Body::Stream { source, .. } = self else { return Relayed::Unable };
        poll_fn(|cx| source.poll_relay(cx, to)).await
    }

    pub async fn frame(&mut self) -> Next {
        poll_fn(|cx| self.poll_frame(cx)).await
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Body {
        Body::from(Bytes::from_static(text.as_bytes()))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        if bytes.is_empty() {
            Body::Empty
        } else {
            Body::Full(bytes)
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Body").field(&self.length()).finish()
    }
}
