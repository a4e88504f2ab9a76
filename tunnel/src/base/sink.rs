//! Where bytes go that somebody else reads: they are written as they come, without a task or a copy in between.
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

pub trait Sink {
    /// As `AsyncWrite::poll_write_vectored`.
    fn poll_write(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
}

/// What became of bytes that were to go to a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// All are written.
    Whole,
    /// The source cannot do it: it is to be read.
    Unable,
    /// The source ended before.
    Ended,
    /// The source broke off before.
    Broken,
    /// The sink takes no more.
    Refused,
}
