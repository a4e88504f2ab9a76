//! Who waits for a change of the configuration.
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};

#[derive(Default)]
pub struct Waiters {
    wakers: RefCell<BTreeMap<u64, Waker>>,
    number: Cell<u64>,
}

/// One of them. Leaves nothing behind when it has found what it waits for, or gives up.
struct Waiter<'a> {
    all: &'a Waiters,
    number: u64,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.all.wakers.borrow_mut().remove(&self.number);
    }
}

impl Waiters {
    /// What `find` finds, after one of the next changes.
    pub async fn find<T>(&self, find: impl Fn() -> Option<T>) -> T {
        let waiter = Waiter { all: self, number: self.number.replace(self.number.get() + 1) };
        poll_fn(|cx| {
            if let Some(found) = find() {
                return Poll::Ready(found);
            }
            self.wakers.borrow_mut().insert(waiter.number, cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// There was a change.
    pub fn wake(&self) {
        self.wakers.take().into_values().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::Arc;
    use std::task::{Context, Wake};

    /// How often a task was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_change_wakes_all_who_wait() {
        let (waiters, woken) = (Waiters::default(), Arc::new(Woken::default()));
        let waker = woken.clone().into();
        let mut cx = Context::from_waker(&waker);
        let mut both = [(); 2].map(|()| Box::pin(waiters.find(|| None::<()>)));
        for changes in 1..=2 {
            assert!(both.iter_mut().all(|one| one.as_mut().poll(&mut cx).is_pending()));
            waiters.wake();
            assert_eq!(woken.0.load(Ordering::Relaxed), 2 * changes);
        }
    }

    #[test]
    fn nothing_is_left_of_one_that_has_found_or_given_up() {
        let (waiters, there) = (Waiters::default(), Cell::new(None));
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut first = pin!(waiters.find(|| there.get()));
            let mut second = pin!(waiters.find(|| None::<()>));
            for _ in 0..3 {
                assert!(first.as_mut().poll(&mut cx).is_pending());
                assert!(second.as_mut().poll(&mut cx).is_pending());
            }
            assert_eq!(waiters.wakers.borrow().len(), 2, "one each, however often they look");
            there.set(Some(7));
            assert_eq!(first.as_mut().poll(&mut cx), Poll::Ready(7));
        }
        assert!(waiters.wakers.borrow().is_empty());
    }
}
