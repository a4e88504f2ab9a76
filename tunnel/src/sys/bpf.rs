//! Maps of the redirection, which the agent has pinned in a bpffs: read and written by the bpf(2) system call.
use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};
use std::cell::RefCell;
use std::ffi::CString;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
use std::{io, slice};

const LOOKUP: libc::c_long = 1;
const UPDATE: libc::c_long = 2;
const DELETE: libc::c_long = 3;
const NEXT_KEY: libc::c_long = 4;
const OBJ_GET: libc::c_long = 7;
const INFO: libc::c_long = 15;

/// A struct that the kernel's programs share: any bytes make one.
///
/// # Safety
/// `repr(C)`, of integers and arrays of them only, without padding.
pub unsafe trait Plain: Copy {}

// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}

/// As many of the bytes as a struct has, as that struct; None of fewer.
pub fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: the length is checked, the read needs no alignment, and any bytes make a `Plain`.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Where things are.
pub struct Places {
    /// What the agent has pinned, its `--bpffs`.
    pub pins: PathBuf,
    /// A file that only one tunnel can lock: it takes the events. (Not a pin: AppArmor's default profiles allow no lock there.)
    pub lock: PathBuf,
}

/// union bpf_attr, as far as it is used here.
#[repr(C)]
union Attributes {
    element: Element,
    object: Object,
    info: InfoRequest,
    room: [u8; 128],
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct InfoRequest {
    fd: u32,
    length: u32,
    info: u64,
}

/// struct bpf_map_info, its first fields.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Info {
    kind: u32,
    pub id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// # Safety
/// What the attributes point to must be as large as the kernel takes it to be, by the sizes of the map.
unsafe fn bpf(command: libc::c_long, attributes: &mut Attributes) -> io::Result<libc::c_long> {
    let pointer = std::ptr::from_mut(attributes);
    // SAFETY: the attributes are whole, and what they point to is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<Attributes>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn blank() -> Attributes {
    Attributes { room: [0; 128] }
}

/// The descriptor of what is pinned at a path.
pub fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = blank();
    attributes.object = Object { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the path ends with a zero, and is there until the call is over.
    let fd = unsafe { bpf(OBJ_GET, &mut attributes)? };
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

pub fn info(map: BorrowedFd<'_>) -> io::Result<Info> {
    let mut info = Info::default();
    let mut attributes = blank();
    let length = size_of::<Info>() as u32;
    attributes.info = InfoRequest { fd: map.as_raw_fd() as u32, length, info: std::ptr::from_mut(&mut info) as u64 };
    // SAFETY: the kernel writes no more than `length` bytes of what is known of a map.
    unsafe { bpf(INFO, &mut attributes)? };
    Ok(info)
}

/// A hash or an array, whose sizes are those of `K` and `V`.
pub struct Map<K, V> {
    fd: OwnedFd,
    info: Info,
    types: PhantomData<(K, V)>,
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// Errors: InvalidData where the map has another layout.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = pinned(path)?;
        let info = self::info(fd.as_fd())?;
        if (info.key_size as usize, info.value_size as usize) != (size_of::<K>(), size_of::<V>()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the agent's map is of another version"));
        }
        Ok(Map { fd, info, types: PhantomData })
    }

    pub fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = MaybeUninit::<V>::uninit();
        // SAFETY: key and value have the map's sizes, which `open` has checked.
        match unsafe { self.element(LOOKUP, key, value.as_mut_ptr() as u64) } {
            // SAFETY: the kernel has written all of it.
            Ok(()) => Ok(Some(unsafe { value.assume_init() })),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub fn put(&self, key: &K, value: &V) -> io::Result<()> {
        // SAFETY: as in `get`.
        unsafe { self.element(UPDATE, key, std::ptr::from_ref(value) as u64) }
    }

    /// One that is not there is no error.
    pub fn delete(&self, key: &K) -> io::Result<()> {
        // SAFETY: as in `get`.
        match unsafe { self.element(DELETE, key, 0) } {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            result => result,
        }
    }

    /// All keys at some time during the call.
    pub fn keys(&self) -> io::Result<Vec<K>> {
        let mut keys: Vec<K> = vec![];
        loop {
            let before = keys.last().map_or(0, |key| std::ptr::from_ref(key) as u64);
            let mut next = MaybeUninit::<K>::uninit();
            let mut attributes = self.attributes(before, next.as_mut_ptr() as u64);
            // SAFETY: both keys have the map's size; 0 stands for none.
            match unsafe { bpf(NEXT_KEY, &mut attributes) } {
                // SAFETY: the kernel has written all of it.
                Ok(_) => keys.push(unsafe { next.assume_init() }),
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(e) => return Err(e),
            }
            if keys.len() > self.info.max_entries as usize {
                return Ok(keys); // entries came and went, and it began anew
            }
        }
    }

    fn attributes(&self, key: u64, value: u64) -> Attributes {
        let mut attributes = blank();
        attributes.element = Element { map: self.fd.as_raw_fd() as u32, pad: 0, key, value, flags: 0 };
        attributes
    }

    /// # Safety
    /// `value` is the address of a `V`, or of nothing where the command takes none.
    unsafe fn element(&self, command: libc::c_long, key: &K, value: u64) -> io::Result<()> {
        let mut attributes = self.attributes(std::ptr::from_ref(key) as u64, value);
        // SAFETY: the key has the map's size; the value is the caller's promise.
        unsafe { bpf(command, &mut attributes) }.map(drop)
    }
}

/// What programs tell, record by record (BPF_MAP_TYPE_RINGBUF). Only one process may take them.
pub struct Ring {
    fd: OwnedFd,
    /// One page, which we write: how far we have read.
    consumer: NonNull<AtomicU64>,
    /// A page, which we read: how far was written; and then the records.
    producer: NonNull<AtomicU64>,
    size: usize,
    page: usize,
    /// A record that was broken in two. (The kernel offers them twice in a row, at twice the memory.)
    whole: RefCell<Vec<u8>>,
}

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEAD: usize = 8;

impl Ring {
    pub fn open(path: &Path) -> io::Result<Ring> {
        let fd = pinned(path)?;
        let size = info(fd.as_fd())?.max_entries as usize;
        let page = rustix::param::page_size();
        let map = |length, protection, offset| -> io::Result<NonNull<AtomicU64>> {
            // SAFETY: a new mapping, at a place of the kernel's choice.
            let at = unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, &fd, offset)? };
            NonNull::new(at.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
        };
        let consumer = map(page, ProtFlags::READ | ProtFlags::WRITE, 0)?;
        match map(page + size, ProtFlags::READ, page as u64) {
            Ok(producer) => Ok(Ring { fd, consumer, producer, size, page, whole: RefCell::default() }),
            Err(e) => {
                // SAFETY: mapped above, and nobody has it.
                let _ = unsafe { munmap(consumer.as_ptr().cast(), page) };
                Err(e)
            }
        }
    }

    /// Takes all records that are complete.
    pub fn consume(&self, mut take: impl FnMut(&[u8])) {
        // SAFETY: both are mapped as long as `self` is there, and aligned to a page.
        let (consumer, producer) = unsafe { (self.consumer.as_ref(), self.producer.as_ref()) };
        let mut at = consumer.load(Ordering::Relaxed);
        loop {
            if at >= producer.load(Ordering::Acquire) {
                return;
            }
            let start = at as usize % self.size;
            // SAFETY: a record begins here, aligned to 8 bytes, and its head of 8 bytes is whole.
            let head = unsafe { &*self.records().add(start).cast::<AtomicU32>() }.load(Ordering::Acquire);
            if head & BUSY != 0 {
                return; // whoever completes it wakes us
            }
            let length = (head & !(BUSY | DISCARDED)) as usize;
            if head & DISCARDED == 0 {
                self.with_record((start + HEAD) % self.size, length, &mut take);
            }
            at += (HEAD + length).next_multiple_of(8) as u64;
            consumer.store(at, Ordering::Release);
            // The kernel wakes us only for a record before which it sees that we had read all: so what it wrote before it
            // could see that has to be seen here.
            fence(Ordering::SeqCst);
        }
    }
}

impl Ring {
    fn records(&self) -> *const u8 {
        // SAFETY: the mapping goes on behind its first page.
        unsafe { self.producer.as_ptr().cast::<u8>().add(self.page) }
    }

    /// A complete record: the kernel leaves it alone until we have moved on.
    fn with_record(&self, start: usize, length: usize, take: impl FnOnce(&[u8])) {
        // SAFETY: both parts lie within the mapping, and are written.
        let part = |start: usize, length: usize| unsafe { slice::from_raw_parts(self.records().add(start), length) };
        match length.checked_sub(self.size - start) {
            None | Some(0) => take(part(start, length)),
            Some(rest) => {
                let mut whole = self.whole.borrow_mut();
                whole.clear();
                whole.extend_from_slice(part(start, length - rest));
                whole.extend_from_slice(part(0, rest));
                take(&whole);
            }
        }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped by `open` with these lengths; no reference into them outlives `self`.
        unsafe {
            let _ = munmap(self.consumer.as_ptr().cast(), self.page);
            let _ = munmap(self.producer.as_ptr().cast(), self.page + self.size);
        }
    }
}
