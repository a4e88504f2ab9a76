//! A descriptor that is kept for the time when no other is left. Without it a connection could not even be refused: it would wait
//! in the kernel, and its client with it.
use std::cell::RefCell;
use std::fs::File;
use std::io;

pub struct Spare(RefCell<Option<File>>);

impl Spare {
    pub fn new() -> io::Result<Spare> {
        Ok(Spare(RefCell::new(Some(File::open("/dev/null")?))))
    }

    /// What `act` gives while there is one descriptor more. Another thread may have been quicker to take it.
    pub fn lend<T>(&self, act: impl FnOnce() -> T) -> T {
        self.0.replace(None);
        let result = act();
        self.0.replace(File::open("/dev/null").ok());
        result
    }
}

/// Whether the process, or the machine, has as many descriptors open as it may.
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
