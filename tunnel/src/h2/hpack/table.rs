//! The static table and the dynamic one (RFC 7541 section 2.3).
use super::{malformed, OVERHEAD};
use crate::h2::frame::Violation;
use std::collections::VecDeque;

/// SETTINGS_HEADER_TABLE_SIZE, of which we say nothing: a peer may make it smaller, and never larger.
pub const SIZE_MAX: usize = 4096;

/// Appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The entries, the oldest one in front. Their texts lie one behind the other in `bytes`, behind those of entries that are
/// gone; these are cleared away when they are half of what a table may have.
pub struct Table {
    entries: VecDeque<Entry>,
    bytes: Vec<u8>,
    /// Where `bytes` begins among all texts that there ever were.
    origin: usize,
    size: usize,
    size_max: usize,
}

struct Entry {
    /// Where its text begins, counted as `origin`.
    start: usize,
    name: usize,
    length: usize,
}

impl Default for Table {
    fn default() -> Self {
        Table { entries: VecDeque::new(), bytes: Vec::new(), origin: 0, size: 0, size_max: SIZE_MAX }
    }
}

impl Table {
    /// Name and value; the dynamic table's latest entry has the index 62.
    pub fn get(&self, index: usize) -> Result<(&[u8], &[u8]), Violation> {
        match index.checked_sub(1) {
            None => malformed("a field of index 0"),
            Some(place) => match STATIC.get(place) {
                Some((name, value)) => Ok((name.as_bytes(), value.as_bytes())),
                None => self.dynamic(place - STATIC.len()),
            },
        }
    }

    fn dynamic(&self, age: usize) -> Result<(&[u8], &[u8]), Violation> {
        let entry = self.entries.len().checked_sub(age + 1).and_then(|place| self.entries.get(place));
        let Some(entry) = entry else { return malformed("a field beyond the end of the table") };
        let start = entry.start - self.origin;
        Ok(self.bytes[start..start + entry.length].split_at(entry.name))
    }

    /// Adds an entry whose text is a name of `name` bytes and a value. One larger than the table empties it (section 4.4).
    pub fn insert(&mut self, text: &[u8], name: usize) {
        let size = text.len() + OVERHEAD;
        self.shrink(self.size_max.saturating_sub(size));
        if size <= self.size_max {
            self.entries.push_back(Entry { start: self.origin + self.bytes.len(), name, length: text.len() });
            self.bytes.extend_from_slice(text);
            self.size += size;
        }
    }

    /// By a size update (section 6.3).
    pub fn resize(&mut self, size_max: usize) -> Result<(), Violation> {
        if size_max > SIZE_MAX {
            return malformed("a table larger than the settings allow");
        }
        self.size_max = size_max;
        self.shrink(size_max);
        Ok(())
    }

    /// Drops the oldest entries until the others are of at most this size.
    fn shrink(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.size -= oldest.length + OVERHEAD;
        }
        let begin = self.entries.front().map_or(self.bytes.len(), |oldest| oldest.start - self.origin);
        if self.entries.is_empty() {
            (self.bytes, self.origin) = (Vec::new(), 0);
        } else if begin >= SIZE_MAX / 2 {
            self.bytes.drain(..begin);
            self.origin += begin;
        }
    }

    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes that the texts take.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}
