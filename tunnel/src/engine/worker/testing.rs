//! A worker without a thread, and a pod without a network, for tests of what belongs to them.
use super::*;
use crate::base::PodKey;
use crate::sys::sockets::{NetNs, Raw};
use crate::telemetry::Options;
use tokio::sync::mpsc::unbounded_channel;

/// Seconds after which a test hangs.
const LIMIT: u64 = 30;

/// Runs `test` in a worker's runtime, where tunnels are written and have their turns. Its clock stands: nothing is timed out.
pub fn run(test: impl AsyncFnOnce(Rc<Worker>)) {
    let options = Options { access_log: "off".parse().unwrap() };
    let shared = Arc::new(Shared {
        mesh: ArcSwap::from_pointee(Mesh::new("node")),
        credentials: ArcSwap::default(),
        revocation: Revocation::new(false),
        subscriptions: None,
        direct: None,
        pending: None,
        telemetry: Telemetry::with_output(options, io::sink()).unwrap(),
        workers: vec![WorkerHandle::new(unbounded_channel().0)],
        spin: Duration::ZERO,
        budget: Budget::process(),
    });
    let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let worker = Worker::new(shared, 0).unwrap();
        let [flushing, calling] = [(); 2].map(|()| worker.clone());
        spawn_local(async move { flushing.flusher.run().await });
        spawn_local(async move { calling.turns.run().await });
        let watch = Rc::new(Clock::new().unwrap());
        let ticking = watch.clone();
        spawn_local(async move { ticking.run().await });
        watch.timeout(LIMIT, test(worker)).await.expect("it hangs");
    });
}

/// Of this identity.
pub fn pod(identity: &str) -> Rc<Pod> {
    Pod::new(info(identity, "pod"))
}

/// What is known of a pod of this identity. Its uid is its name, its network namespace is none.
pub fn info(identity: &str, name: &str) -> Arc<PodInfo> {
    let identity: Identity = identity.parse().unwrap();
    let key = PodKey {
        namespace: identity.namespace.clone(),
        name: name.into(),
        service_account: identity.service_account.clone(),
    };
    let netns = NetNs::new(std::fs::File::open("/dev/null").unwrap().into());
    let budget = Budget::pod(&Budget::process());
    Arc::new(PodInfo { uid: name.into(), key, identity, netns, raw: Raw::default(), budget })
}
