//! Which kernel this is.
use std::sync::LazyLock;

/// Whether the redirection is told by which device a connection arrives (bpf/device.h).
pub fn tells_device() -> bool {
    static TELLS: LazyLock<bool> = LazyLock::new(|| is_at_least(5, 17));
    *TELLS
}

/// Whether it is Linux `major`.`minor` or later. A release that cannot be read is taken for an older one.
fn is_at_least(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    uname.release().to_str().ok().and_then(version).is_some_and(|version| version >= (major, minor))
}

/// Of a release like `6.1.0-37-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_by_their_first_two_numbers() {
        for (release, read) in [
            ("6.1.0-37-amd64", Some((6, 1))),
            ("5.14.0-427.el9.x86_64", Some((5, 14))),
            ("6.18-rc3", Some((6, 18))),
            ("7.2.13+deb14-cloud", Some((7, 2))),
            ("unknown", None),
        ] {
            assert_eq!(version(release), read, "{release}");
        }
        assert!(is_at_least(5, 10) && !is_at_least(1000, 0));
    }
}
