//! The allocator of the core: the C library's, with pieces of some kilobytes kept by the thread that frees them.
//!
//! glibc is quick up to 1,032 bytes (its thread cache; from 2.42 on it can take larger pieces). For each larger one it looks
//! through what was freed, and joins neighbours. A request takes several: its fields when they are more than six, futures,
//! tasks, what is read.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, null_mut};

/// Bytes up to which the C library is quick itself, and those up to which pieces are kept, in steps.
const QUICK: usize = 1 << 10;
const LARGEST: usize = 8 << 10;
const STEP: usize = 256;
const CLASSES: usize = (LARGEST - QUICK) / STEP;
/// Bytes that a thread keeps at most.
const MOST: usize = 256 << 10;
/// Of every piece of the C library's.
const ALIGN: usize = 16;

pub struct Pieces;

#[global_allocator]
static ALL: Pieces = Pieces;

struct Kept {
    /// By class, the piece that was freed last; its first bytes lead to the one before.
    last: [Cell<*mut u8>; CLASSES],
    /// Bytes that may still be kept: none, unless the thread has asked for it.
    room: Cell<usize>,
}

thread_local! {
    // Without a destructor: it is there as long as the thread frees.
    static KEPT: Kept = const { Kept { last: [const { Cell::new(null_mut()) }; CLASSES], room: Cell::new(0) } };
}

/// As long as it lives, its thread keeps pieces.
pub struct Keeping(PhantomData<*const ()>); // of one thread

pub fn keep() -> Keeping {
    KEPT.with(|kept| kept.room.set(MOST));
    Keeping(PhantomData)
}

impl Drop for Keeping {
    fn drop(&mut self) {
        KEPT.with(|kept| {
            for class in 0..CLASSES {
                while let Some(piece) = kept.take(class) {
                    // SAFETY: the C library got it with this layout, and nobody has it.
                    unsafe { System.dealloc(piece, whole(class)) };
                }
            }
            kept.room.set(0);
        });
    }
}

/// None: the C library's business.
fn class(layout: Layout) -> Option<usize> {
    let above = layout.size().wrapping_sub(QUICK + 1);
    (above < LARGEST - QUICK && layout.align() <= ALIGN).then_some(above / STEP)
}

/// What the C library is asked for: any piece of a class does for another one.
fn whole(class: usize) -> Layout {
    // SAFETY: a power of two, and far from what overflows.
    unsafe { Layout::from_size_align_unchecked(QUICK + (class + 1) * STEP, ALIGN) }
}

impl Kept {
    fn take(&self, class: usize) -> Option<*mut u8> {
        let piece = self.last[class].get();
        if piece.is_null() {
            return None;
        }
        // SAFETY: it is kept, so that nobody else has it, and `give` has written there.
        self.last[class].set(unsafe { piece.cast::<*mut u8>().read() });
        self.room.set(self.room.get() + whole(class).size());
        Some(piece)
    }

    /// Whether it is kept.
    fn give(&self, class: usize, piece: *mut u8) -> bool {
        let Some(left) = self.room.get().checked_sub(whole(class).size()) else { return false };
        // SAFETY: it has just been freed, is large enough for a pointer, and aligned for one.
        unsafe { piece.cast::<*mut u8>().write(self.last[class].get()) };
        self.last[class].set(piece);
        self.room.set(left);
        true
    }
}

// SAFETY: pieces are the C library's, of the size of their class, which their layout tells; one that is kept is given to one
// at a time.
unsafe impl GlobalAlloc for Pieces {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            // SAFETY: as the caller promises.
            None => unsafe { System.alloc(layout) },
            Some(class) => match KEPT.with(|kept| kept.take(class)) {
                Some(piece) => piece,
                // SAFETY: its size is not 0.
                None => unsafe { System.alloc(whole(class)) },
            },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            // SAFETY: as the caller promises.
            None => unsafe { System.alloc_zeroed(layout) },
            Some(class) => match KEPT.with(|kept| kept.take(class)) {
                Some(piece) => {
                    // SAFETY: it is at least as large.
                    unsafe { ptr::write_bytes(piece, 0, layout.size()) };
                    piece
                }
                // SAFETY: its size is not 0.
                None => unsafe { System.alloc_zeroed(whole(class)) },
            },
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match class(layout) {
            // SAFETY: as the caller promises; the C library got it with this layout.
            None => unsafe { System.dealloc(piece, layout) },
            Some(class) if KEPT.with(|kept| kept.give(class, piece)) => {}
            // SAFETY: the C library got it with this layout.
            Some(class) => unsafe { System.dealloc(piece, whole(class)) },
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(layout), class(wanted)) {
            // SAFETY: as the caller promises; the C library got it with this layout.
            (None, None) => unsafe { System.realloc(piece, layout, size) },
            (before, now) if before == now => piece,
            // SAFETY: both are as large as their layouts say, and apart.
            _ => unsafe {
                let other = self.alloc(wanted);
                if !other.is_null() {
                    ptr::copy_nonoverlapping(piece, other, layout.size().min(size));
                    self.dealloc(piece, layout);
                }
                other
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn room() -> usize {
        KEPT.with(|kept| kept.room.get())
    }

    fn keeping(test: impl FnOnce() + Send + 'static) {
        let run = move || {
            let _keeping = keep();
            test();
        };
        thread::spawn(run).join().unwrap();
    }

    #[test]
    fn pieces_are_used_again_by_their_class() {
        keeping(|| {
            let piece = Vec::<u8>::with_capacity(QUICK + 1);
            let place = piece.as_ptr();
            drop(piece);
            let other = Vec::<u8>::with_capacity(QUICK + STEP + 1);
            assert_ne!(other.as_ptr(), place);
            let again = Vec::<u8>::with_capacity(QUICK + STEP);
            assert_eq!(again.as_ptr(), place);
            assert_eq!(room(), MOST);
        });
    }

    #[test]
    fn what_grows_and_shrinks_keeps_its_bytes() {
        keeping(|| {
            let mut bytes: Vec<u8> = Vec::new();
            for n in 0..3 * LARGEST {
                bytes.push(n as u8);
            }
            for size in [2 * LARGEST, LARGEST + 1, LARGEST, 5000, QUICK + 1, QUICK, 17] {
                bytes.truncate(size);
                bytes.shrink_to_fit();
                assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == n as u8), "{size}");
            }
        });
    }

    #[test]
    fn zeroed_pieces_are_zero_whatever_was_in_them() {
        keeping(|| {
            drop(vec![7_u8; 4000]);
            assert!(vec![0_u8; 4000].iter().all(|byte| *byte == 0));
        });
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for_and_nothing_by_others() {
        keeping(|| {
            let many: Vec<Vec<u8>> = (0..2 * MOST / 4096).map(|_| Vec::with_capacity(4096)).collect();
            drop(many);
            assert!(room() < 4096, "{}", room());
        });
        thread::spawn(|| {
            drop(Vec::<u8>::with_capacity(4096));
            assert_eq!(room(), 0);
        })
        .join()
        .unwrap();
    }
}
