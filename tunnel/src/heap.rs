//! The C library's heaps, for a process whose threads each carry many connections.

/// Bytes by which heaps grow; they are touched when they are used.
const STEP: libc::c_int = 512 << 10;

/// A thread's heap grows page by page otherwise, each time by a system call that stops all threads' faults.
pub fn grow_in_large_steps() {
    // SAFETY: sets numbers inside the allocator, before the workers begin.
    unsafe {
        libc::mallopt(libc::M_TOP_PAD, STEP);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 4 * STEP);
    }
}

/// What was freed between what is in use is kept otherwise.
pub fn give_back() {
    // SAFETY: the allocator takes its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
