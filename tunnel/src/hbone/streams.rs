//! The streams of a tunnel, and what the settings of both ends allow them.
use super::session::STREAMS_MAX;
use super::stream::Stream;
use crate::h2::flow::BASE;
use crate::h2::frame::{Code, Settings, Violation, DEFAULT_WINDOW};
use crate::relay::CloseReason;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

/// Streams that we open before the peer has said how many it takes.
pub const STREAMS_UNTOLD: usize = 100;
/// What is kept of the memory for streams; what more a burst has made is given back.
const KEPT: usize = 16;

/// Stream ids count up by two: multiplying spreads them well enough.
#[derive(Default)]
struct IdHash(u64);

impl Hasher for IdHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u32(&mut self, id: u32) {
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

pub struct Streams {
    open: HashMap<u32, Rc<Stream>, BuildHasherDefault<IdHash>>,
    /// Those that wait until the tunnel takes more.
    blocked: Vec<Rc<Stream>>,
    /// The windows of a new stream: what the peer gives it, and what the peer believes that we do.
    initial_window: i64,
    own_window: i64,
    /// That we may open.
    max: usize,
    told_settings: bool,
}

impl Default for Streams {
    fn default() -> Self {
        Streams {
            open: HashMap::default(),
            blocked: Vec::new(),
            initial_window: DEFAULT_WINDOW,
            own_window: DEFAULT_WINDOW,
            max: STREAMS_UNTOLD,
            told_settings: false,
        }
    }
}

impl Streams {
    pub fn get(&self, id: u32) -> Option<Rc<Stream>> {
        self.open.get(&id).cloned()
    }

    pub fn contains(&self, id: u32) -> bool {
        self.open.contains_key(&id)
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether the peer takes another one of ours.
    pub fn has_room(&self) -> bool {
        self.open.len() < self.max
    }

    /// The windows of a new stream: what we, and what the peer may send at first.
    pub fn windows(&self) -> (i64, i64) {
        (self.initial_window, self.own_window)
    }

    pub fn insert(&mut self, stream: &Rc<Stream>) {
        self.open.insert(stream.id, stream.clone());
    }

    pub fn remove(&mut self, id: u32) -> Option<Rc<Stream>> {
        let stream = self.open.remove(&id)?;
        if self.open.is_empty() {
            self.open.shrink_to(KEPT);
        }
        Some(stream)
    }

    /// All of them, when the tunnel is over.
    pub fn take_all(&mut self) -> Vec<Rc<Stream>> {
        self.blocked.clear();
        self.open.drain().map(|(_, stream)| stream).collect()
    }

    /// Has `unblock` wake it.
    pub fn block(&mut self, stream: &Rc<Stream>) {
        if !self.blocked.iter().any(|blocked| Rc::ptr_eq(blocked, stream)) {
            self.blocked.push(stream.clone());
        }
    }

    pub fn unblock(&mut self) {
        for stream in self.blocked.drain(..) {
            stream.wake();
        }
    }

    pub fn settings(&mut self, settings: &Settings) -> Result<(), Violation> {
        if let Some(window) = settings.window {
            let change = i64::from(window) - self.initial_window;
            self.initial_window = i64::from(window);
            for stream in self.open.values() {
                stream.grow(change)?;
            }
        }
        // Without a word about it there is no limit (section 6.5.2); what is not named again stays as it is.
        match settings.streams {
            Some(streams) => self.max = STREAMS_MAX.min(streams as usize),
            None if !self.told_settings => self.max = STREAMS_MAX,
            None => {}
        }
        self.told_settings = true;
        Ok(())
    }

    /// From now on the peer gives new streams the window that we announced, and has given it to the others.
    pub fn acknowledged(&mut self) {
        let change = i64::from(BASE) - std::mem::replace(&mut self.own_window, i64::from(BASE));
        self.open.values().for_each(|stream| stream.adjust(change));
    }

    /// The peer has not looked at the streams after `last`.
    pub fn unprocessed_after(&self, last: u32) {
        let late = self.open.values().filter(|stream| stream.id > last);
        late.for_each(|stream| stream.fail(CloseReason::Reset(Code::REFUSED_STREAM)));
    }

    /// To be called every few seconds: streams at rest give back what they do not need.
    pub fn look(&self) {
        self.open.values().for_each(|stream| stream.look());
    }
}
