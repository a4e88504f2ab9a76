//! The kernel's part, as the agent has pinned it: what is allowed goes in, what became of connections comes out.
use super::pairs::Allowances;
use crate::base::log_error;
use crate::sys::bpf::{self, Map, Places, Ring};
use crate::sys::diag::{Diag, Found};
use crate::sys::layout::{Allowance, Announcement, Event, Pair, ANNOUNCED_DIRECT};
use crate::sys::netns::NetNs;
use rustix::fs::{flock, FlockOperation};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;

const GENERATION: u32 = 0;

pub struct Kernel {
    maps: PathBuf,
    /// The kernel's numbers of those that are open here.
    ids: [Option<u32>; 4],
    direct: Map<Pair, Allowance>,
    generations: Map<u32, u64>,
    /// By which the kernel tells our word from that of a tunnel before us.
    generation: u64,
    announcing: OwnedFd,
    pub ring: AsyncFd<Ring>,
    /// Held by the one that takes the events; the others wait for it to end.
    lock: File,
    ours: Cell<bool>,
}

impl Kernel {
    /// `generation` is not 0, and no other tunnel's. From now on only what we say counts.
    pub fn open(places: &Places, generation: u64) -> io::Result<Kernel> {
        let maps = places.pins.join("maps");
        let ring = Ring::open(&maps.join("events"))?;
        // SAFETY: the ring owns its descriptor, so it stays open and the same for as long as it is registered.
        let ring = unsafe { AsyncFd::register(ring)? };
        let kernel = Kernel {
            ids: ids(&maps),
            direct: Map::open(&maps.join("direct"))?,
            generations: Map::open(&maps.join("generation"))?,
            announcing: bpf::pinned(&maps.join("announcing"))?,
            lock: File::create(&places.lock)?,
            ours: Cell::new(false),
            generation,
            ring,
            maps,
        };
        kernel.generations.put(&GENERATION, &generation)?;
        for pair in kernel.direct.keys()? {
            kernel.direct.delete(&pair)?;
        }
        Ok(kernel)
    }

    /// Whether the agent has pinned other maps meanwhile.
    pub fn is_replaced(&self) -> bool {
        ids(&self.maps) != self.ids
    }

    /// Takes the events from now on, if no other tunnel does.
    pub fn claim(&self) -> bool {
        self.ours.set(flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_ok());
        self.ours.get()
    }

    /// They are another tunnel's from now on.
    pub fn release(&self) {
        self.ours.set(false);
        let _ = flock(&self.lock, FlockOperation::Unlock); // of a lock that is not ours nothing is lost
    }

    /// Whether we are the one that takes the events, and tells of connections.
    pub fn is_ours(&self) -> bool {
        self.ours.get()
    }

    /// Those that are to be taken, if they are ours.
    pub fn events(&self, mut take: impl FnMut(&Event)) {
        if !self.is_ours() {
            return;
        }
        self.ring.get_ref().consume(|record| {
            if let Some(event) = bpf::read(record) {
                take(&event);
            }
        });
    }

    /// Tells of each direct connection that a pod has made and that is open or being opened, and gives a way to destroy it.
    pub fn connections(&self, netns: &NetNs, mut tell: impl FnMut(&Announcement, &Found<'_>)) -> io::Result<Diag> {
        let diag = Diag::open(netns)?;
        diag.each(self.announcing.as_raw_fd(), |found| {
            if let Some(own) = bpf::read::<Announcement>(found.storage).filter(|own| own.kind == ANNOUNCED_DIRECT) {
                tell(&own, &found);
            }
        })?;
        Ok(diag)
    }
}

impl Allowances for Kernel {
    /// False where a newer tunnel has taken over, or there is no room.
    fn allow(&self, pair: &Pair, allowance: Allowance) -> bool {
        let ours = self.generations.get(&GENERATION).is_ok_and(|now| now == Some(self.generation));
        ours && self.direct.put(pair, &Allowance { generation: self.generation, ..allowance }).is_ok()
    }

    fn deny(&self, pair: &Pair) {
        if let Err(error) = self.direct.delete(pair) {
            // Going on would let through what is not allowed. With us every allowance ends.
            log_error("direct", &format!("cannot deny a pair of pods in the kernel: {error}; ending"));
            std::process::abort();
        }
    }
}

/// Of the maps that are pinned now.
fn ids(maps: &Path) -> [Option<u32>; 4] {
    let id = |name| bpf::pinned(&maps.join(name)).and_then(|fd| bpf::info(fd.as_fd())).ok().map(|info| info.id);
    ["direct", "generation", "announcing", "events"].map(id)
}
