//! Paths as routes see them and servers get them: Istio's `meshConfig.pathNormalization`, in Envoy's order.
use crate::base::merge_slashes;
use http::uri::PathAndQuery;
use std::str::FromStr;

/// Each does what those before it do, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Normalization {
    /// Paths stay as they are: a rule for `/admin` does not see `/x/../admin`.
    None,
    /// Percent-encodings of unreserved characters are undone, backslashes become slashes, and dot segments are resolved
    /// (RFC 3986 section 6.2.2).
    #[default]
    Base,
    /// Of several slashes one is left.
    MergeSlashes,
    /// %2F and %5C are slashes as well.
    DecodeAndMergeSlashes,
}

impl FromStr for Normalization {
    type Err = String;

    /// Istio's names, as options have them: `decode-and-merge-slashes`.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "none" => Normalization::None,
            "base" => Normalization::Base,
            "merge-slashes" => Normalization::MergeSlashes,
            "decode-and-merge-slashes" => Normalization::DecodeAndMergeSlashes,
            _ => return Err(format!("{text:?} is no path normalization")),
        })
    }
}

impl Normalization {
    /// None: it has a NUL, at which some servers end it, or cannot be written as a path.
    pub fn of(self, path: &PathAndQuery) -> Option<PathAndQuery> {
        let text = path.path();
        let merges = self >= Normalization::MergeSlashes;
        let changes = text.contains(['%', '\\']) || text.contains("/.") || (merges && text.contains("//"));
        if !changes || self == Normalization::None {
            return Some(path.clone());
        }
        if text.contains("%00") {
            return None;
        }
        let mut normal = resolve(&decode(text, self == Normalization::DecodeAndMergeSlashes));
        if merges {
            normal = merge_slashes(&normal);
        }
        if let Some(query) = path.query() {
            normal.push('?');
            normal.push_str(query);
        }
        PathAndQuery::try_from(normal).ok()
    }
}

fn decode(path: &str, slashes: bool) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        decoded.push_str(&rest[..at]);
        let hex = rest.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let (character, taken) = match hex.filter(|_| rest.as_bytes()[at] == b'%').map(char::from) {
            Some('/' | '\\') if slashes => ('/', 3),
            Some(byte) if byte.is_ascii_alphanumeric() || "-._~".contains(byte) => (byte, 3),
            _ if rest.as_bytes()[at] == b'\\' => ('/', 1),
            _ => ('%', 1),
        };
        decoded.push(character);
        rest = &rest[at + taken..];
    }
    decoded + rest
}

/// RFC 3986 section 5.2.4. Empty segments stay.
fn resolve(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in &kept {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if resolved.is_empty() {
        resolved.push('/');
    }
    resolved
}
