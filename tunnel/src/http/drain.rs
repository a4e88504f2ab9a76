//! The order to end connections as soon as that costs nobody a request.
use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::Notify;

#[derive(Clone, Default)]
pub struct Drain(Rc<State>);

#[derive(Clone, Copy, Default, PartialEq, PartialOrd)]
enum Stage {
    #[default]
    No,
    /// The client is told with the next answer, or at once where the protocol has a word for it; nothing is closed before.
    Announced,
    /// What rests is closed.
    Ordered,
}

#[derive(Default)]
struct State {
    stage: Cell<Stage>,
    notify: Notify,
}

impl Drain {
    pub fn order(&self) {
        self.reach(Stage::Ordered);
    }

    /// As `order`, but a connection that rests stays open for one more request: its client may be sending it.
    pub fn announce(&self) {
        self.reach(Stage::Announced);
    }

    fn reach(&self, stage: Stage) {
        if self.0.stage.get() < stage {
            self.0.stage.set(stage);
            self.0.notify.notify_waiters();
        }
    }

    pub fn is_announced(&self) -> bool {
        self.0.stage.get() >= Stage::Announced
    }

    /// Returns when it is announced, or ordered.
    pub async fn announced(&self) {
        self.reached(Stage::Announced).await;
    }

    /// Returns when it is ordered.
    pub async fn ordered(&self) {
        self.reached(Stage::Ordered).await;
    }

    async fn reached(&self, stage: Stage) {
        while self.0.stage.get() < stage {
            self.0.notify.notified().await;
        }
    }
}
