//! What others ask of the thread for direct connections.
use crate::base::OriginalDst;
use crate::policy::Admitted;
use crate::sys::PodInfo;
use serde_json::Value;
use std::sync::{mpsc, Arc};
use tokio::sync::mpsc::UnboundedSender;

/// What others ask of the thread.
pub enum Command {
    /// The pairs and the events are ours, as soon as they are no other tunnel's.
    Serve,
    /// They are another tunnel's from now on.
    Retire(mpsc::Sender<()>),
    Add(Arc<PodInfo>),
    /// With `drain`, what is connected goes on to its end.
    Remove {
        uid: Arc<str>,
        drain: bool,
        done: mpsc::Sender<()>,
    },
    /// A connection of this pod to there was let in.
    Offer(Arc<PodInfo>, OriginalDst),
    /// The mesh is new.
    Changed,
    /// Other certificates may be revoked, or there are new ones.
    Revoked,
    /// Have the metrics say what the kernel knows; gives the records of open connections.
    Look(mpsc::Sender<Vec<String>>),
    /// The connections that policies have let in.
    Admitted(mpsc::Sender<Vec<Admitted>>),
    /// For the configuration dump.
    Describe(mpsc::Sender<Value>),
}

/// What others have of it.
#[derive(Clone)]
pub struct Handle(UnboundedSender<Command>);

impl Handle {
    pub fn new(commands: UnboundedSender<Command>) -> Handle {
        Handle(commands)
    }

    pub fn send(&self, command: Command) {
        drop(self.0.send(command)); // fails only when the thread has ended, with the process
    }

    /// What the thread answers; nothing where it has ended.
    pub fn ask<T: Default>(&self, command: impl FnOnce(mpsc::Sender<T>) -> Command) -> T {
        let (answer, answers) = mpsc::channel();
        self.send(command(answer));
        answers.recv().unwrap_or_default()
    }
}
