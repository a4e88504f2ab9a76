//! What else an application may take a request's path or host for: servers undo what the client has written in various ways.

use crate::base::merge_slashes;

/// As often as encodings are undone that were made of encodings.
const DEPTH: usize = 3;

/// The other forms of a path: slashes merged, encodings undone, parameters (`;x`) left out or not, dot segments resolved.
/// None where nothing of that changes it.
pub fn paths(path: &str) -> Vec<String> {
    let mut forms: Vec<String> = vec![];
    if !path.contains(['%', ';', '\\']) && !path.contains("//") && !path.contains("/.") {
        return forms;
    }
    let mut add = |form: String| {
        if form != path && !forms.contains(&form) {
            forms.push(form);
        }
    };
    let mut decoded = merge_slashes(path);
    add(decoded.clone());
    for _ in 0..DEPTH {
        decoded = decode(&decoded);
        add(resolve(&decoded));
        add(resolve(&without_parameters(&decoded)));
    }
    forms
}

/// The other forms of an authority in lower case: without its port, and without the dot of a name that is complete.
pub fn hosts(host: &str) -> Vec<String> {
    let bare = without_port(host);
    let complete = bare.strip_suffix('.').unwrap_or(bare);
    let mut forms = vec![];
    for form in [bare, complete] {
        if form != host && forms.last().is_none_or(|last| last != form) {
            forms.push(form.to_owned());
        }
    }
    forms
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Once; backslashes are slashes to some. What is no text afterwards is compared as far as it is.
fn decode(path: &str) -> String {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.as_bytes();
    while let [first, rest @ ..] = bytes {
        let hex = rest.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                bytes = &rest[2..];
            }
            (first, _) => {
                decoded.push(*first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&decoded).replace('\\', "/")
}

fn without_parameters(path: &str) -> String {
    let plain = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
    path.split('/').map(plain).collect::<Vec<_>>().join("/")
}

/// RFC 3986 section 5.2.4, and no segment empty but the last.
fn resolve(path: &str) -> String {
    let mut kept: Vec<&str> = vec![];
    let segments: Vec<&str> = path.split('/').collect();
    for (segment, last) in segments.iter().zip((0..segments.len()).rev()) {
        match *segment {
            ".." => drop(kept.pop()),
            "." | "" => {}
            segment => kept.push(segment),
        }
        if last == 0 && matches!(*segment, "" | "." | "..") {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_may_be_taken_for() {
        for (path, forms) in [
            ("/", &[][..]),
            ("/a/b", &[]),
            ("/a/", &[]),
            ("//a///b", &["/a/b"]),
            ("//a/../b", &["/a/../b", "/b"]),
            ("/a%2fb", &["/a/b"]),
            ("/a%2Fb%", &["/a/b%"]),
            ("/a%252fb", &["/a%2fb", "/a/b"]),
            ("/x/..%2fa", &["/a"]),
            ("/x%5c..%5ca", &["/a"]),
            ("/a;v=1/b;w", &["/a/b"]),
            ("/x/..;/a", &["/a"]),
            ("/x/..;y/..%2fa", &["/x/..;y/..%2fa", "/x/a", "/a"][1..]),
            ("/x//..;p//a;q", &["/x/..;p/a;q", "/a"]),
            ("/a/%2e", &["/a/"]),
            ("/%61", &["/a"]),
            ("/a%3bx", &["/a;x", "/a"]),
        ] {
            assert_eq!(paths(path), forms, "{path}");
        }
    }

    #[test]
    fn what_a_host_may_be_taken_for() {
        for (host, forms) in [
            ("a.b", &[][..]),
            ("a.b:80", &["a.b"]),
            ("a.b.", &["a.b"]),
            ("a.b.:80", &["a.b.", "a.b"]),
            ("[fd00::1]:80", &["[fd00::1]"]),
            ("[fd00::1]", &[]),
        ] {
            assert_eq!(hosts(host), forms, "{host}");
        }
    }
}
