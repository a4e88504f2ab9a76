//! The memory that peers and applications can make a tunnel hold, and its bound: the figures are here.
//!
//! What waits for an application that does not read, and for a peer that does not, is bounded by `POD` for each pod and by
//! `PROCESS` for all. Everybody has a base for which nobody is asked: a stream its first window (`flow::BASE`), a tunnel
//! one record. More comes out of the budgets, half of which is for windows and buffers that grow; the other half always
//! has room for what a base becomes when its application does not read. A pod gets no more than the others have left, and
//! a tunnel no more than the other ones of its pod: so a few that take all that they can get leave something to the next.
//!
//! Beyond the budgets there are, for each connection, its task of 1 kB (`proxy/sizes.rs`) and its stream, and for each tunnel
//! about 9 kB and an unsent record. A peer's request is paid for until it is answered: then its connection has a descriptor,
//! of which there are so many.
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// For all pods: five that take all that they can get.
pub const PROCESS: usize = 256 << 20;
/// For a pod: 1,300 streams at their base that nobody reads, while as much again has grown. With what is beyond the budgets
/// it is less than 64 MB, which is what one pod may cost a node.
pub const POD: usize = 42 << 20;

/// Which part of a budget is asked for.
#[derive(Clone, Copy)]
enum Part {
    /// All of it, for what is here and has to be kept.
    Whole = 1,
    /// Half of it, for what makes things faster.
    Half = 2,
}

/// What may be held, and what is: of the process, a pod or a tunnel. Workers share it; two that take at the same moment
/// may exceed it by what they take.
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    parent: Option<Arc<Budget>>,
}

impl Budget {
    pub fn process() -> Arc<Self> {
        Arc::new(Budget { limit: PROCESS, used: AtomicUsize::new(0), parent: None })
    }

    /// Of a pod, below that of the process.
    pub fn pod(process: &Arc<Budget>) -> Arc<Self> {
        process.child(POD)
    }

    /// Of a tunnel, below its pod's.
    pub fn tunnel(pod: &Arc<Budget>) -> Arc<Self> {
        pod.child(usize::MAX)
    }

    fn child(self: &Arc<Self>, limit: usize) -> Arc<Self> {
        Arc::new(Budget { limit, used: AtomicUsize::new(0), parent: Some(self.clone()) })
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be taken. Never more than the others have left above.
    fn left(&self, part: Part) -> usize {
        let above = self.parent.as_ref().map_or(usize::MAX, |parent| parent.left(part));
        above.min(self.limit / part as usize).saturating_sub(self.used())
    }

    /// Bytes by which something may grow that can do without.
    pub fn spare(&self) -> usize {
        self.left(Part::Half)
    }

    /// Three quarters are used: nothing new should begin.
    pub fn is_short(&self) -> bool {
        self.left(Part::Whole) < self.limit.min(POD) / 4
    }

    fn add(&self, n: usize) {
        self.used.fetch_add(n, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.add(n);
        }
    }

    fn give_back(&self, n: usize) {
        self.used.fetch_sub(n, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.give_back(n);
        }
    }
}

/// What one stream or buffer has of a budget; given back when it is dropped.
pub struct Share {
    budget: Arc<Budget>,
    held: Cell<usize>,
}

impl Share {
    /// Nothing, yet.
    pub fn of(budget: &Arc<Budget>) -> Self {
        Share { budget: budget.clone(), held: Cell::new(0) }
    }

    pub fn held(&self) -> usize {
        self.held.get()
    }

    /// Holds exactly `n` bytes from now on. False, and nothing changes, where there is no room for more.
    #[must_use]
    pub fn hold(&self, n: usize) -> bool {
        let held = self.held();
        if n > held && n - held > self.budget.left(Part::Whole) {
            return false;
        }
        self.hold_anyway(n);
        true
    }

    /// As `hold`, for what is here already.
    pub fn hold_anyway(&self, n: usize) {
        match self.held.replace(n) {
            held if held < n => self.budget.add(n - held),
            held if held > n => self.budget.give_back(held - n),
            _ => {}
        }
    }

    /// Bytes that its budget has for what can do without.
    pub fn spare(&self) -> usize {
        self.budget.spare()
    }

    /// The most that it may grow to: half of what is left to it. Of many that grow all get the same, and a newcomer as
    /// much as they.
    pub fn limit(&self) -> usize {
        (self.budget.spare() + self.held()) / 2
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.hold_anyway(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;

    fn pod() -> Arc<Budget> {
        Budget::pod(&Budget::process())
    }

    /// Takes all that it can get, a little at a time; how much that is.
    fn fill(share: &Share) -> usize {
        while share.hold(share.held() + (16 << 10)) {}
        share.held()
    }

    /// What each of `n` has that grow, by twice what they have, as long as they may.
    fn grown(budgets: &[Arc<Budget>]) -> Vec<usize> {
        let shares: Vec<_> = budgets.iter().map(Share::of).collect();
        for _ in 0..20 {
            for share in &shares {
                let size = (2 * share.held().max(16 << 10)).min(share.limit());
                assert!(share.hold(size));
            }
        }
        shares.iter().map(Share::held).collect()
    }

    #[test]
    fn a_share_counts_at_every_level_until_it_is_dropped() {
        let process = Budget::process();
        let pod = Budget::pod(&process);
        let tunnel = Budget::tunnel(&pod);
        let share = Share::of(&tunnel);
        assert!(share.hold(3 * MB) && share.hold(2 * MB));
        assert_eq!([&tunnel, &pod, &process].map(|budget| budget.used()), [2 * MB; 3]);
        drop(share);
        assert_eq!([&tunnel, &pod, &process].map(|budget| budget.used()), [0; 3]);
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let share = Share::of(&pod());
        assert!(share.hold(MB) && !share.hold(POD + 1));
        assert_eq!(share.held(), MB);
        assert!(share.hold(POD));
    }

    #[test]
    fn many_that_grow_get_the_same_and_never_all() {
        for (n, least) in [(1, 7 * MB), (8, MB), (100, 100 << 10), (400, 25 << 10)] {
            let pod = pod();
            let budgets = vec![pod.clone(); n];
            let sizes = grown(&budgets);
            let (smallest, largest) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(*smallest >= least && *largest <= 4 * smallest, "{n}: {smallest} to {largest}");
            assert!(sizes.iter().sum::<usize>() <= POD / 2, "{n}: the other half is for what does not grow");
        }
    }

    #[test]
    fn one_that_grows_leaves_as_much_to_the_next() {
        let pod = pod();
        let share = Share::of(&pod);
        while share.held() < share.limit() {
            assert!(share.hold(share.limit()));
        }
        assert!(pod.spare() >= share.held(), "{} of {}", share.held(), pod.spare());
    }

    #[test]
    fn a_tunnel_leaves_something_to_the_next() {
        let pod = pod();
        let shares: Vec<_> = (0..3).map(|_| Share::of(&Budget::tunnel(&pod))).collect();
        for (share, most) in shares.iter().zip([POD / 2, POD / 4, POD / 8]) {
            assert!(fill(share).abs_diff(most) <= 32 << 10, "{} of {most}", share.held());
        }
    }

    #[test]
    fn pods_share_what_the_process_has() {
        let process = Budget::process();
        let pods: Vec<_> = (0..10).map(|_| Budget::pod(&process)).collect();
        let shares: Vec<_> = pods.iter().map(Share::of).collect();
        assert!(shares.iter().all(|share| fill(share) > 0));
        assert!(process.used() <= PROCESS);
        assert!(pods.iter().all(|pod| pod.is_short()));
    }

    #[test]
    fn a_pod_is_short_when_three_quarters_are_used() {
        let pod = pod();
        let share = Share::of(&pod);
        share.hold_anyway(POD * 3 / 4);
        assert!(!pod.is_short());
        share.hold_anyway(POD * 3 / 4 + 1);
        assert!(pod.is_short());
    }

    #[test]
    fn a_thousand_streams_that_nobody_reads_fit_into_one_tunnel() {
        let tunnel = Budget::tunnel(&pod());
        let shares: Vec<_> = (0..1000).map(|_| Share::of(&tunnel)).collect();
        assert!(shares.iter().all(|share| share.hold(crate::h2::flow::BASE as usize)));
        assert!(!tunnel.is_short());
    }
}
