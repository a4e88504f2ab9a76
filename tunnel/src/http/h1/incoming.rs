//! A body that arrives over a connection.
use super::chunked::{Chunked, Piece};
use super::connection::{Connection, Reading, BODY_ROOM};
use super::framing::Framing;
use crate::base::sink::{Relayed, Sink};
use crate::http::body::Next;
use crate::http::io::Io;
use crate::http::settings::Limits;
use crate::http::{Body, BodyError, Frame, Source};
use std::rc::Rc;
use std::task::{ready, Context, Poll};

enum Decoder {
    /// Bytes that are still to come.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

struct Incoming<S, E> {
    connection: Rc<Connection<S>>,
    decoder: Decoder,
    /// What is done when all has been read.
    end: Option<E>,
}

/// The body that follows a head with `framing`. `end` is called when all of it was read, for a body that is here at once.
pub fn body<S: Io, E: FnOnce() + 'static>(
    connection: &Rc<Connection<S>>,
    framing: Framing,
    limits: Limits,
    end: E,
) -> Body {
    let (length, decoder) = match framing {
        Framing::Length(length) => {
            let mut input = connection.input.borrow_mut();
            if length <= input.len() as u64 {
                let bytes = input.split_to(length as usize).freeze();
                connection.body.set(Reading::Done);
                drop(input);
                end();
                return Body::from(bytes);
            }
            (Some(length), Decoder::Length(length))
        }
        Framing::Chunked => (None, Decoder::Chunked(Chunked::new(limits))),
        Framing::UntilClose => (None, Decoder::UntilClose),
    };
    connection.body.set(Reading::Open);
    Body::stream(length, Incoming { connection: connection.clone(), decoder, end: Some(end) })
}

impl<S: Io, E: FnOnce()> Incoming<S, E> {
    /// What there is without reading more.
    fn decode(&mut self) -> Result<Option<Piece>, BodyError> {
        let mut input = self.connection.input.borrow_mut();
        match &mut self.decoder {
            Decoder::Length(0) => Ok(Some(Piece::End(None))),
            Decoder::Chunked(chunked) => chunked.next(&mut input).map_err(|_| BodyError::Malformed),
            _ if input.is_empty() => Ok(None),
            Decoder::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= take as u64;
                Ok(Some(Piece::Data(input.split_to(take).freeze())))
            }
            Decoder::UntilClose => Ok(Some(Piece::Data(input.split().freeze()))),
        }
    }

    fn finish(&mut self) {
        if let Some(end) = self.end.take() {
            self.connection.body.set(Reading::Done);
            self.connection.tidy();
            end();
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, BodyError>> {
        loop {
            if let Some(piece) = self.decode()? {
                return Poll::Ready(Ok(piece));
            }
            if ready!(self.connection.poll_fill(cx, BODY_ROOM)).map_err(|_| BodyError::Reset)? == 0 {
                let closed = matches!(self.decoder, Decoder::UntilClose);
                return Poll::Ready(if closed { Ok(Piece::End(None)) } else { Err(BodyError::Incomplete) });
            }
        }
    }
}

impl<S: Io, E: FnOnce()> Source for Incoming<S, E> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Reading::Failed(error) = self.connection.body.get() {
            return Poll::Ready(Some(Err(error)));
        }
        if self.end.is_none() {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.poll_piece(cx)) {
            Ok(Piece::Data(bytes)) => {
                if matches!(self.decoder, Decoder::Length(0)) {
                    self.finish();
                }
                Some(Ok(Frame::Data(bytes)))
            }
            Ok(Piece::End(trailers)) => {
                self.finish();
                trailers.map(|trailers| Ok(Frame::Trailers(trailers)))
            }
            Err(error) => {
                self.connection.body.set(Reading::Failed(error));
                Some(Err(error))
            }
        })
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>, to: &Rc<dyn Sink>) -> Poll<Relayed> {
        let Decoder::Length(left) = &mut self.decoder else { return Poll::Ready(Relayed::Unable) };
        if self.end.is_none() || *left == 0 || !self.connection.input.borrow().is_empty() {
            return Poll::Ready(Relayed::Unable);
        }
        let relayed = ready!(self.connection.poll_relay(cx, to, left));
        match relayed {
            Relayed::Whole => self.finish(),
            Relayed::Ended => self.connection.body.set(Reading::Failed(BodyError::Incomplete)),
            Relayed::Broken => self.connection.body.set(Reading::Failed(BodyError::Reset)),
            Relayed::Unable | Relayed::Refused => {}
        }
        Poll::Ready(relayed)
    }
}
