//! Says to an event loop outside of the core that there is news.
use rustix::event::{eventfd, EventfdFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Readable from the first `ring` after a `clear` on.
pub struct Bell(OwnedFd);

impl Bell {
    pub fn new() -> io::Result<Bell> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Bell).map_err(io::Error::from)
    }

    /// To wait for.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub fn ring(&self) {
        // Fails only when the counter is full: then it is readable anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub fn clear(&self) {
        // It is empty when somebody else has cleared it meanwhile.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}
