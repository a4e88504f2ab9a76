//! The order to end connections as soon as that costs nobody a request.
use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::Notify;

#[derive(Clone, Default)]
pub struct Drain(Rc<State>);

#[derive(Default)]
struct State {
    ordered: Cell<bool>,
    notify: Notify,
}

impl Drain {
    pub fn order(&self) {
        self.0.ordered.set(true);
        self.0.notify.notify_waiters();
    }

    pub fn is_ordered(&self) -> bool {
        self.0.ordered.get()
    }

    /// Returns when it is ordered.
    pub async fn ordered(&self) {
        while !self.is_ordered() {
            self.0.notify.notified().await;
        }
    }
}
