//! Host names as clients give them.

/// Characters at most (RFC 1035 section 2.3.4), without the dot at the end.
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A host name in lower case, without a dot at its end. None: DNS cannot have it.
pub fn dns_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(known)
    };
    (name.len() <= LONGEST && name.split('.').all(is_label)).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_labels_that_dns_can_have() {
        let long = "a".repeat(63);
        for (text, name) in [
            ("Api.Example.", Some("api.example")),
            ("_x-1.example", Some("_x-1.example")),
            (&long, Some(&*long)),
            (&format!("{long}a"), None),
            (&[&*long; 4].join("."), None),
            ("", None),
            ("a..b", None),
            ("a.b..", None),
            ("[::1]", None),
            ("a\\.b", None),
        ] {
            assert_eq!(dns_name(text).as_deref(), name, "{text}");
        }
    }
}
