//! What is asked of a worker.
use super::listening::Accepting;
use crate::pending;
use crate::policy::Admitted;
use crate::sys::PodInfo;
use std::io;
use std::sync::{mpsc, Arc};

/// It answers when it is done.
pub enum Command {
    Add(Arc<PodInfo>, mpsc::Sender<io::Result<()>>),
    /// Takes what comes for a pod that was added.
    Accept(Arc<str>, Accepting),
    /// The gateway's own pod, which listens where the mesh says.
    AddGateway(Arc<PodInfo>, mpsc::Sender<io::Result<()>>),
    /// With `drain`, what is open goes on to its end.
    Remove {
        uid: Arc<str>,
        drain: bool,
        done: mpsc::Sender<io::Result<()>>,
    },
    /// The mesh or the credentials are new.
    Changed,
    /// DNS has answered for a name that somebody may wait for.
    Resolved,
    /// Other certificates are revoked.
    Revoked,
    /// A tunnel that another worker has accepted for this one.
    Tunnel(Arc<str>, std::net::TcpStream),
    /// An application of a pod that waits for an answer.
    Pending(Arc<str>, pending::Call),
    /// Calls back for each connection, with its record.
    Inspect(mpsc::Sender<Vec<String>>),
    /// The connections that policies have let in.
    Admitted(mpsc::Sender<Vec<Admitted>>),
    /// The workloads to which there are tunnels, by uid.
    Destinations(mpsc::Sender<Vec<Arc<str>>>),
    /// No new connections: they are a successor's. Clients and peers may take all the time for those that are open.
    Retire,
    /// No new connections.
    Drain,
    /// How many connections there are.
    Count(mpsc::Sender<usize>),
    /// Ends all connections.
    Cut,
}
