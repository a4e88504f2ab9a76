//! What a connection may ask of its node: who it is, what the mesh says, whether policies let it in.
use super::{Pod, Pods, Shared};
use crate::base::{Failure, Identity, OriginalDst, Refusal, Rng};
use crate::decision::{self, Needed};
use crate::mesh::Workload;
use crate::policy::{Admission, Attempt, Guard, Judgement, Permits, Verdict};
use crate::relay::Thread;
use crate::sys::waiters::Waiters;
use crate::telemetry::ConnectionRecord;
use crate::tls::credentials::Credentials;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Seconds for which a connection waits for the configuration or the certificate that it needs.
const CONFIGURATION_TIMEOUT: u64 = 5;

/// The node, as the connections of one thread see it.
pub struct Context {
    pub shared: Arc<Shared>,
    pub thread: Rc<Thread>,
    pub pods: Pods,
    pub rng: RefCell<Rng>,
    /// For a change of the configuration, or an answer of DNS.
    waiters: Waiters,
}

impl Context {
    pub fn new(shared: Arc<Shared>, thread: Rc<Thread>) -> Rc<Context> {
        let rng = RefCell::new(Rng::from_entropy());
        Rc::new(Context { shared, thread, pods: Pods::default(), rng, waiters: Waiters::default() })
    }

    /// The configuration or the credentials are new: who waits looks again, and what is open is held against them.
    pub fn change(&self) {
        self.waiters.wake();
        let mesh = self.shared.mesh.load();
        for pod in self.pods.all() {
            pod.change(&mesh);
        }
    }

    /// DNS has answered: who waits looks again.
    pub fn wake(&self) {
        self.waiters.wake();
    }

    /// What `find` finds, now or after a change of the configuration within a few seconds.
    async fn wait_for<T>(&self, find: impl Fn() -> Option<T>) -> Option<T> {
        if let Some(found) = find() {
            return Some(found);
        }
        let found = self.waiters.find(find);
        self.thread.clock.timeout(CONFIGURATION_TIMEOUT, found).await.ok()
    }

    /// The workload that a pod is. A pod may speak before the mesh has told of it.
    pub async fn workload(&self, pod: &Pod) -> Option<Arc<Workload>> {
        let find = || self.shared.mesh.load().local(&pod.key).cloned();
        self.wait_for(find).await
    }

    /// Where the mesh holds only what was asked for: asks for what a connection needs, and waits until it is known, or
    /// known not to be, or the control plane takes too long.
    pub async fn resolve_on_demand(&self, source: &Workload, dst: OriginalDst) {
        let Some(subscriptions) = &self.shared.subscriptions else { return };
        let answered = |needed: &Needed| subscriptions.want(&needed.name) || needed.known;
        let all_answered = || {
            let needed = decision::needed(&self.shared.mesh.load(), source, dst);
            // All of them are asked for at once.
            (needed.iter().filter(|needed| !answered(needed)).count() == 0).then_some(())
        };
        self.wait_for(all_answered).await;
    }

    /// Likewise for a service that is called by its name, `namespace/hostname`.
    pub async fn service_on_demand(&self, name: &str) {
        let Some(subscriptions) = &self.shared.subscriptions else { return };
        let answered = || subscriptions.want(name) || self.shared.mesh.load().service(name).is_some();
        self.wait_for(|| answered().then_some(())).await;
    }

    /// The addresses of a name of the world; empty: it has none, or DNS takes too long.
    pub async fn look_up(&self, name: &str) -> Arc<[IpAddr]> {
        let find = || self.shared.lookups.addresses(name, Instant::now());
        self.wait_for(find).await.unwrap_or_default()
    }

    /// Asks for the workload of a peer, for the next record of it: what a peer may is decided by what it has proven.
    pub fn prefetch_peer(&self, pod: &Pod, peer: IpAddr) {
        if let (Some(subscriptions), Some(local)) =
            (&self.shared.subscriptions, self.shared.mesh.load().local(&pod.key))
        {
            subscriptions.want(&decision::address_name(&local.network, peer));
        }
    }

    /// What policies say of an attempt, at once or when those that are missing have arrived; None: the pod is not known.
    pub async fn judge(&self, pod: &Pod, attempt: &Attempt) -> Option<(Judgement, Arc<Guard>)> {
        let further = attempt.door.as_ref().map_or(&[][..], |door| &door.policies);
        let judge = || {
            let guard = self.shared.mesh.load().guard_at(&pod.key, further)?.clone();
            Some((guard.judge(attempt), guard))
        };
        let decided = || judge().filter(|(judgement, _)| !matches!(judgement.verdict, Verdict::Undecided(_)));
        self.wait_for(decided).await.or_else(judge)
    }

    /// Lets in what policies allow.
    pub async fn admit(&self, pod: &Pod, attempt: Attempt, record: &ConnectionRecord) -> Result<Admission, Failure> {
        let unknown = || Failure { refusal: Refusal::UnknownWorkload, detail: String::new() };
        let (judgement, guard) = self.judge(pod, &attempt).await.ok_or_else(unknown)?;
        record.judged(&judgement);
        let requests = judgement.verdict == Verdict::NeedsRequest;
        judgement.outcome()?;
        let permits = self.count(&guard, &attempt)?;
        Ok(Admission { attempt, guard, requests, permits })
    }

    /// Counts a connection where connections are limited. Errors: there are too many.
    pub fn count(&self, guard: &Guard, attempt: &Attempt) -> Result<Permits, Failure> {
        guard.admit(attempt, Instant::now()).map_err(|beyond| {
            self.thread.telemetry.said(beyond.policy(), "connection_limited");
            Failure { refusal: Refusal::TooManyConnections, detail: beyond.to_string() }
        })
    }

    pub fn credentials(&self, identity: &Identity) -> Option<Arc<Credentials>> {
        self.shared.credentials.load().get(identity).cloned()
    }

    /// As `credentials`, but waits for a certificate that is under way.
    pub async fn credentials_soon(&self, identity: &Identity) -> Option<Arc<Credentials>> {
        self.wait_for(|| self.credentials(identity)).await
    }
}
