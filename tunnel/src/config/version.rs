//! The version of a resource, as the control plane names it. There is one for each of tens of thousands of resources.

use std::fmt;

/// Told back after a reconnection, so that only what differs is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// 16 hexadecimal digits, lower case: the agent's are.
    Hash(u64),
    Text(Box<str>),
}

impl From<&str> for Version {
    fn from(text: &str) -> Version {
        let digits = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        let hash = (text.len() == 16 && text.bytes().all(digits)).then(|| u64::from_str_radix(text, 16));
        hash.and_then(Result::ok).map_or_else(|| Version::Text(text.into()), Version::Hash)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Hash(hash) => write!(f, "{hash:016x}"),
            Version::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_as_it_was_heard() {
        for text in ["", "1", "00000000000000ff", "00000000000000FF", "+000000000000001", "2026-11-21T13:00:00Z/77"] {
            assert_eq!(Version::from(text).to_string(), text);
        }
        assert_eq!(Version::from("00000000000000ff"), Version::Hash(255));
        assert_eq!(size_of::<Version>(), 16);
    }
}
