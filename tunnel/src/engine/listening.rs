//! Who listens in the pods: a tunnel that takes over from another does so with the other's listeners.
use super::command::Command;
use super::worker::Role;
use super::{lock, Core};
use crate::decision::{HBONE_PORT, INBOUND_PLAIN_PORT, OUTBOUND_PORT};
use crate::proxy::questions::DNS_PORT;
use crate::sys::listeners::Place;
use crate::sys::{kernel, PodInfo};
use crate::{direct, pending};
use socket2::SockRef;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::Arc;

const ROLES: [(u16, Role); 3] =
    [(OUTBOUND_PORT, Role::Outbound), (INBOUND_PLAIN_PORT, Role::Plain), (HBONE_PORT, Role::Tunnel)];

/// What one worker accepts from, and where a predecessor has waited for questions to name servers.
#[derive(Default)]
pub struct Accepting {
    pub listeners: Vec<(TcpListener, Role)>,
    pub questions: Vec<UdpSocket>,
}

impl Core {
    /// Listens in all pods, also in those that come later, with what a predecessor has left. Gives the uids of pods in which
    /// it cannot, and why.
    pub fn serve(&self, left: Vec<(Place, OwnedFd)>) -> Vec<(String, io::Error)> {
        self.shared.listeners.inherit(left);
        self.serving.store(true, Ordering::Relaxed);
        let pods: Vec<_> = lock(&self.pods).values().cloned().collect();
        let listen = |pod: &Arc<PodInfo>| match self.listen(pod) {
            Ok(listeners) => {
                self.accept(pod, listeners);
                None
            }
            Err(error) => Some((pod.uid.to_string(), error)),
        };
        let failed = pods.iter().filter_map(listen).collect();
        self.ask_pending(pending::Command::Serve);
        self.tell_direct(|| direct::Command::Serve);
        self.shared.listeners.close_rest();
        failed
    }

    /// Listens nowhere any more, and has peers ask elsewhere; what is open goes on.
    pub fn retire(&self) {
        self.serving.store(false, Ordering::Relaxed);
        self.ask_pending(pending::Command::Drain);
        self.ask_direct(direct::Command::Retire);
        self.tell_all(|| Command::Retire);
        self.open(); // the answer comes after the deed
    }

    /// How many connections are open, direct ones not counted.
    pub fn open(&self) -> usize {
        self.collect(Command::Count).into_iter().sum()
    }

    /// Duplicates of the listeners that came into use since it was asked last, where somebody is to keep them.
    pub fn listeners(&self) -> Vec<(Place, OwnedFd)> {
        self.shared.listeners.made()
    }

    /// What each worker is to accept from.
    pub(super) fn listen(&self, pod: &PodInfo) -> io::Result<Vec<Accepting>> {
        let workers = self.workers.len();
        let mut accepting: Vec<Accepting> = (0..workers).map(|_| Accepting::default()).collect();
        for (port, role) in ROLES {
            let make = |left: &[TcpListener]| match role {
                Role::Plain => make_plain(pod, left, workers),
                _ => (left.len()..workers).map(|_| pod.netns.listen(port, None)).collect(),
            };
            let listeners = self.shared.listeners.at((pod.netns.inode(), port), make);
            let named = |e: io::Error| io::Error::new(e.kind(), format!("listening on port {port} of {pod}: {e}"));
            let mut listeners: Vec<TcpListener> = listeners.map_err(named)?;
            listeners.sort_by_key(is_bound); // each worker has its share of either kind
            for (number, listener) in listeners.into_iter().enumerate() {
                accepting[number % workers].listeners.push((listener, role));
            }
        }
        for (number, socket) in self.shared.listeners.left((pod.netns.inode(), DNS_PORT)).into_iter().enumerate() {
            accepting[number % workers].questions.push(socket);
        }
        Ok(accepting)
    }

    pub(super) fn accept(&self, pod: &PodInfo, accepting: Vec<Accepting>) {
        for (worker, accepting) in self.workers.iter().zip(accepting) {
            // Fails only when the worker has ended, with the process.
            drop(worker.commands.send(Command::Accept(pod.uid.clone(), accepting)));
        }
    }
}

/// Listeners for what comes plainly, as many bound to the pod's device as not, which take what comes by another device
/// (bpf/sk_lookup.bpf.c).
///
/// Of a listener that is bound to the device by which it comes a connection is from its first segment on another one to the
/// kernel than one over lo by the same addresses and ports, as the tunnel has to the application: else the kernel would take
/// what is said there for the handshake's end, and reset it.
fn make_plain(pod: &PodInfo, left: &[TcpListener], workers: usize) -> io::Result<Vec<TcpListener>> {
    let bound = left.iter().filter(|listener| is_bound(listener)).count();
    let unbound = left.len() - bound;
    let device = kernel::tells_device().then(|| pod.netns.only_device()).flatten();
    let by_device: Vec<_> = device.map_or(vec![], |device| {
        let make = |_| pod.netns.listen(INBOUND_PLAIN_PORT, Some(&device)).ok();
        (bound..workers).map_while(make).collect() // where it is refused, the others take it all
    });
    // A redirection that is older than this tunnel, as in an upgrade, knows the last one only, of whichever kind.
    let last = usize::from(!by_device.is_empty());
    let others = (unbound..workers.max(unbound + last)).map(|_| pod.netns.listen(INBOUND_PLAIN_PORT, None));
    by_device.into_iter().map(Ok).chain(others).collect()
}

fn is_bound(listener: &TcpListener) -> bool {
    SockRef::from(listener).device().is_ok_and(|device| device.is_some())
}
