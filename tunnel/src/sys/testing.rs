//! What tests ask of a future.
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

/// Polls it once: whether it is not done, and waits.
pub fn waits(future: Pin<&mut impl Future>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}
