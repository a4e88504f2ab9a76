//! What a panic may do: it is told in one line, counted, and ends what it happened in. What is around it goes on.
//!
//! Each task of a worker belongs to one connection or one tunnel, whose guards clean up when the task is unwound. What a
//! whole worker depends on ends the process instead: half a worker would let connections hang.
use std::any::Any;
use std::future::Future;
use std::panic::{set_hook, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Once;
use tokio::task::{spawn_local, JoinHandle};

use crate::base::log_error;

static COUNT: AtomicU64 = AtomicU64::new(0);
static WATCHED: Once = Once::new();

/// Has all panics of the process told and counted from now on.
pub fn watch() {
    WATCHED.call_once(|| {
        set_hook(Box::new(|panic| {
            COUNT.fetch_add(1, Ordering::Relaxed);
            log_error("panic", &describe(panic));
        }));
    });
}

/// How many there were.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// One line.
fn describe(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    format!("thread {name} panicked at {place}: {}", message(panic.payload()).escape_debug())
}

fn message(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Cleans up when a panic leaves the scope, where otherwise its end does.
pub struct OnPanic<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

/// For a scope on which a whole worker depends: a panic that leaves it ends the process.
pub fn vital() -> OnPanic<impl FnMut()> {
    OnPanic(|| {
        log_error("panic", "a worker depends on what panicked: the tunnel ends, restart it");
        std::process::abort();
    })
}

/// A task without which its thread is of no use.
pub fn spawn_vital<T: 'static>(task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    spawn_local(async move {
        let _vital = vital();
        task.await
    })
}

#[cfg(test)]
pub mod testing {
    use std::panic::{catch_unwind, AssertUnwindSafe};

    /// Has a panic unwind a task, which drops what it holds: as one in what the task waits for would.
    pub fn unwind<T>(task: T) {
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _task = task;
            panic!("of this test");
        }));
        assert!(unwound.is_err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::panic::{catch_unwind, AssertUnwindSafe};
    use std::process::Command;

    #[test]
    fn only_a_panic_is_cleaned_up_after() {
        let mut cleaned = 0;
        drop(OnPanic(|| cleaned += 1));
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _guard = OnPanic(|| cleaned += 1);
            panic!("of this test");
        }));
        assert!(unwound.is_err());
        assert_eq!(cleaned, 1);
    }

    #[test]
    fn a_panics_message_is_known_in_both_its_forms() {
        assert_eq!(message(&"text"), "text");
        assert_eq!(message(&"text".to_owned()), "text");
        assert_eq!(message(&7), "no message");
    }

    /// In a process of its own, which is this test again.
    #[test]
    fn a_panic_is_counted_and_of_what_a_worker_depends_on_ends_the_process() {
        const AGAIN: &str = "WARREN_PANICS_TEST";
        if std::env::var_os(AGAIN).is_none() {
            let name = "sys::panics::tests::a_panic_is_counted_and_of_what_a_worker_depends_on_ends_the_process";
            let mut again = Command::new(std::env::current_exe().unwrap());
            let done = again.args(["--exact", "--nocapture", name]).env(AGAIN, "1").output().unwrap();
            let told = String::from_utf8(done.stderr).unwrap();
            assert_eq!(done.status.signal(), Some(libc::SIGABRT), "{told}");
            assert!(
                told.contains("panicked at") && told.contains("of others") && told.contains("restart it"),
                "{told}"
            );
            return;
        }
        watch();
        assert!(catch_unwind(|| panic!("of others")).is_err());
        assert_eq!(count(), 1);
        let _vital = vital();
        panic!("of a worker");
    }
}
