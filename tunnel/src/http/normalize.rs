//! Paths as routes see them and servers get them: Istio's pathNormalization BASE (RFC 3986 section 6.2.2).
use http::uri::PathAndQuery;

/// Percent-encodings of unreserved characters are undone, backslashes become slashes, and dot segments are resolved. None:
/// it has a NUL, at which some servers end it, or cannot be written as a path.
pub fn normalize(path: &PathAndQuery) -> Option<PathAndQuery> {
    let text = path.path();
    if !text.contains(['%', '\\']) && !text.contains("/.") {
        return Some(path.clone());
    }
    if text.contains("%00") {
        return None;
    }
    let mut normal = resolve(&decode(text));
    if let Some(query) = path.query() {
        normal.push('?');
        normal.push_str(query);
    }
    PathAndQuery::try_from(normal).ok()
}

fn decode(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        decoded.push_str(&rest[..at]);
        let hex = rest.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex.filter(|_| rest.as_bytes()[at] == b'%').map(char::from) {
            Some(byte) if byte.is_ascii_alphanumeric() || "-._~".contains(byte) => {
                decoded.push(byte);
                rest = &rest[at + 3..];
            }
            _ => {
                decoded.push(if rest.as_bytes()[at] == b'\\' { '/' } else { '%' });
                rest = &rest[at + 1..];
            }
        }
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
