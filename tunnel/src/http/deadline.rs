//! The time-out of a whole request (VirtualService timeout): it runs from the end of the request's body, as Envoy's, and
//! ends a response that is not whole by then.
use super::body::Next;
use super::{Body, BodyError, Source};
use crate::base::sink::{Relayed, Sink};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{ready, Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until, Instant, Sleep};

/// When a body has been read to its end.
#[derive(Default)]
struct End {
    at: Cell<Option<Instant>>,
    notify: Notify,
    /// The response was not whole in time.
    cut: Cell<bool>,
}

pub struct Deadline {
    end: Rc<End>,
    timeout: Duration,
}

/// A body whose end is watched.
struct Watched {
    body: Body,
    end: Rc<End>,
}

impl Source for Watched {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let next = ready!(self.body.poll_frame(cx));
        if !matches!(next, Some(Ok(super::Frame::Data(_)))) && self.end.at.get().is_none() {
            self.end.at.set(Some(Instant::now()));
            self.end.notify.notify_one();
        }
        Poll::Ready(next)
    }
}

impl Deadline {
    /// Takes the request's body to see its end.
    pub fn new(timeout: Duration, body: &mut Body) -> Deadline {
        let end = Rc::new(End::default());
        if body.is_here() {
            end.at.set(Some(Instant::now()));
        } else {
            let length = body.length();
            let watched = Watched { body: std::mem::take(body), end: end.clone() };
            *body = Body::stream(length, watched);
        }
        Deadline { end, timeout }
    }

    /// Returns when it has passed.
    pub async fn passed(&self) {
        loop {
            match self.end.at.get() {
                Some(at) => return sleep_until(at + self.timeout).await,
                None => self.end.notify.notified().await,
            }
        }
    }

    pub fn has_cut(&self) -> bool {
        self.end.cut.get()
    }

    /// The response's body until then.
    pub fn limit(&self, body: &mut Body) {
        if let Body::Stream { length, .. } = *body {
            let left = self.end.at.get().map_or(self.timeout, |at| (at + self.timeout) - Instant::now());
            *body = Body::stream(
                length,
                Limited { body: std::mem::take(body), sleep: Box::pin(sleep(left)), end: self.end.clone() },
            );
        }
    }
}

struct Limited {
    body: Body,
    sleep: Pin<Box<Sleep>>,
    end: Rc<End>,
}

impl Limited {
    /// Ready when the time is over.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.sleep.as_mut().poll(cx));
        self.end.cut.set(true);
        Poll::Ready(())
    }
}

impl Source for Limited {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Poll::Ready(next) = self.body.poll_frame(cx) {
            return Poll::Ready(next);
        }
        self.poll_cut(cx).map(|()| Some(Err(BodyError::Reset)))
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>, to: &Rc<dyn Sink>) -> Poll<Relayed> {
        let Body::Stream { source, .. } = &mut self.body else { return Poll::Ready(Relayed::Unable) };
        if let Poll::Ready(relayed) = source.poll_relay(cx, to) {
            return Poll::Ready(relayed);
        }
        self.poll_cut(cx).map(|()| Relayed::Broken)
    }
}

/// What a client of gRPC gives a request (`grpc-timeout`): up to 8 digits and a unit.
pub fn of_grpc(value: &str) -> Option<Duration> {
    let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let number = number.parse::<u64>().ok().filter(|_| number.len() <= 8 && number.as_bytes()[0] != b'+')?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_grpc() {
        let rows = [
            ("5S", Some(5_000)),
            ("100m", Some(100)),
            ("1H", Some(3_600_000)),
            ("2M", Some(120_000)),
            ("2000u", Some(2)),
        ];
        let rows = rows.into_iter().chain([
            ("", None),
            ("S", None),
            ("5", None),
            ("+5S", None),
            ("123456789S", None),
            ("5é", None),
        ]);
        for (text, milliseconds) in rows {
            assert_eq!(of_grpc(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }
}
