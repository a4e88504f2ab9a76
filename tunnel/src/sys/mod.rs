//! What the kernel and a thread give: sockets in a pod's namespace, timers, turns, memory and its bounds, eBPF maps.
pub mod acceptor;
pub mod bell;
pub mod bpf;
pub mod budget;
pub mod buffer;
pub mod datagrams;
pub mod diag;
pub mod flusher;
pub mod heap;
pub mod kernel;
pub mod layout;
pub mod listeners;
pub mod netns;
pub mod panics;
pub mod pieces;
pub mod plain;
pub mod pod_info;
pub mod sockets;
pub mod spare;
pub mod spin;
pub mod stash;
#[cfg(test)]
pub mod testing;
pub mod timer;
pub mod turns;
pub mod waiters;

pub use pod_info::PodInfo;
