//! Listeners that outlive a tunnel: another process keeps duplicates of them, and gives them to the tunnel's successor with all
//! connections that wait in them.
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where a listener is: the inode of its network namespace, which is no other's while the listener is open, and its port.
pub type Place = (u64, u16);

pub struct Listeners {
    /// Somebody wants the duplicates.
    kept: bool,
    /// A predecessor's, until they are taken.
    inherited: Mutex<HashMap<Place, Vec<OwnedFd>>>,
    /// Duplicates of those that are in use, until somebody asks for them.
    made: Mutex<Vec<(Place, OwnedFd)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listeners {
    pub fn new(kept: bool) -> Listeners {
        Listeners { kept, inherited: Mutex::default(), made: Mutex::default() }
    }

    /// What a predecessor has left.
    pub fn inherit(&self, left: impl IntoIterator<Item = (Place, OwnedFd)>) {
        let mut inherited = lock(&self.inherited);
        left.into_iter().for_each(|(place, listener)| inherited.entry(place).or_default().push(listener));
    }

    /// The listeners of a place: those that the predecessor left, as what waits in each has to be accepted, and what is made
    /// beside them.
    pub fn at<T>(&self, place: Place, make: impl FnOnce(&[T]) -> io::Result<Vec<T>>) -> io::Result<Vec<T>>
    where
        T: AsFd + From<OwnedFd>,
    {
        let mut listeners: Vec<T> = self.left(place);
        listeners.extend(make(&listeners)?);
        listeners.iter().try_for_each(|listener| self.keep(place, listener))?;
        Ok(listeners)
    }

    /// What the predecessor left of a place; it is not kept further.
    pub fn left<T: From<OwnedFd>>(&self, place: Place) -> Vec<T> {
        lock(&self.inherited).remove(&place).unwrap_or_default().into_iter().map(T::from).collect()
    }

    /// Has a duplicate kept, where somebody wants it.
    pub fn keep(&self, place: Place, listener: &impl AsFd) -> io::Result<()> {
        if self.kept {
            lock(&self.made).push((place, listener.as_fd().try_clone_to_owned()?));
        }
        Ok(())
    }

    /// Duplicates of those that came into use since it was asked last.
    pub fn made(&self) -> Vec<(Place, OwnedFd)> {
        std::mem::take(&mut lock(&self.made))
    }

    /// Closes what was inherited and nobody has taken.
    pub fn close_rest(&self) {
        lock(&self.inherited).clear();
    }
}
