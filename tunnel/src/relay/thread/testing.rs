//! A thread for tests of what belongs to one.
use super::*;
use crate::telemetry::{Options, Telemetry};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

/// Seconds after which a test hangs.
const LIMIT: u64 = 30;

/// Runs `test` in a thread's runtime, where tunnels are written and have their turns. Its clock stands: nothing is timed out.
pub fn run(test: impl AsyncFnOnce(Rc<Thread>)) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let options = Options { access_log: "off".parse().unwrap() };
        let telemetry = Telemetry::with_output(options, io::sink()).unwrap();
        let thread = Thread::new(telemetry.worker()).unwrap();
        // Not vital here: a test that fails would end the process, and with it the others.
        let [flushing, calling] = [(); 2].map(|()| thread.clone());
        spawn_local(async move { flushing.flusher.run().await });
        spawn_local(async move { calling.turns.run().await });
        let watch = Rc::new(Clock::new().unwrap());
        let ticking = watch.clone();
        spawn_local(async move { ticking.run().await });
        watch.timeout(LIMIT, test(thread)).await.expect("it hangs");
    });
}
