//! What the connections of one thread share: it has them from accept to close.
use crate::sys::flusher::Flusher;
use crate::sys::panics::spawn_vital;
use crate::sys::spare::Spare;
use crate::sys::spin::Spin;
use crate::sys::timer::Clock;
use crate::sys::turns::Turns;
use crate::telemetry::WorkerTelemetry;
use std::io;
use std::rc::Rc;
use std::time::Duration;

pub struct Thread {
    pub spin: Spin,
    pub clock: Clock,
    pub flusher: Flusher,
    pub turns: Turns,
    pub telemetry: WorkerTelemetry,
    pub spare: Spare,
}

impl Thread {
    /// To be called inside the thread's runtime.
    pub fn new(telemetry: WorkerTelemetry) -> io::Result<Rc<Thread>> {
        let (spin, flusher, turns) = (Spin::default(), Flusher::default(), Turns::default());
        Ok(Rc::new(Thread { spin, clock: Clock::new()?, flusher, turns, telemetry, spare: Spare::new()? }))
    }

    /// Begins the tasks without which no connection goes on. It looks for more work for so long before it sleeps.
    pub fn start(self: &Rc<Self>, spin: Duration) {
        let ticking = self.clone();
        spawn_vital(async move { ticking.clock.run().await });
        let flushing = self.clone();
        spawn_vital(async move { flushing.flusher.run().await });
        let calling = self.clone();
        spawn_vital(async move { calling.turns.run().await });
        // A task, not the runtime's main future: waking that costs a write to an eventfd each time.
        let spinning = self.clone();
        spawn_vital(async move { spinning.spin.run(spin).await });
    }
}

#[cfg(test)]
pub mod testing;
