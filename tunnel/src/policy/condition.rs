//! What a match of a policy asks of a connection, and by `request` of a request: sorted once, looked up by halving. No
//! comparison allocates.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::request::{self, Seen};
use crate::base::Prefix;

/// What policies compare of a caller's identity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attribute {
    /// `<trust domain>/ns/<namespace>/sa/<service account>`.
    Principal,
    /// The same without the trust domain, which does not count here.
    Account,
    Namespace,
}

impl Attribute {
    /// The one that tells most callers apart comes first.
    pub const ALL: [Attribute; 3] = [Attribute::Principal, Attribute::Account, Attribute::Namespace];
}

/// A caller's identity: a text for each attribute.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a>(pub [&'a str; 3]);

impl<'a> Caller<'a> {
    pub fn text(&self, attribute: Attribute) -> &'a str {
        self.0[attribute as usize]
    }
}

/// What conditions are about.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// None without mutual TLS: then no condition on the caller holds.
    pub caller: Option<Caller<'a>>,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub port: u16,
    /// None as long as there is none: then it may be any.
    pub request: Option<&'a Seen<'a>>,
}

/// A condition that has to hold, or (negated) must not.
#[derive(Debug, PartialEq)]
pub struct Test {
    pub condition: Condition,
    pub negated: bool,
    /// Of what can be written in several ways any one will do; else all of them have to. An application may read another
    /// one than the client has written: none of them may get past a DENY rule, nor be let in by an ALLOW rule for another.
    pub any_form: bool,
}

/// That an attribute has any of some values.
#[derive(Debug, PartialEq)]
pub enum Condition {
    Caller(Attribute, Strings),
    Source(Addresses),
    Destination(Addresses),
    Port(Box<[u16]>),
    Request(request::Condition),
}

impl Test {
    /// Whether it holds; of a request that is yet to come, whether it could.
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        match (&self.condition, facts.request) {
            (Condition::Request(_), None) => true,
            (Condition::Request(condition), Some(seen)) => condition.holds(seen, self.any_form) != self.negated,
            (condition, _) => condition.holds(facts) != self.negated,
        }
    }

    pub fn asks_for_request(&self) -> bool {
        matches!(self.condition, Condition::Request(_))
    }
}

impl Condition {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        match self {
            Condition::Request(_) => true, // `Test` asks it itself
            Condition::Caller(attribute, values) => {
                facts.caller.is_some_and(|caller| values.contain(caller.text(*attribute)))
            }
            Condition::Source(values) => values.contain(facts.source),
            Condition::Destination(values) => values.contain(facts.destination),
            Condition::Port(values) => values.binary_search(&facts.port).is_ok(),
        }
    }
}

/// Texts, beginnings and ends of texts. Compared byte by byte, with case.
#[derive(Debug, Default, PartialEq)]
pub struct Strings {
    /// Any text will do.
    any: bool,
    exact: Box<[Box<str>]>,
    /// None of them begins with another one.
    prefixes: Box<[Box<str>]>,
    /// Back to front, and as `prefixes`.
    suffixes: Box<[Box<[u8]>]>,
}

impl Strings {
    pub fn new(any: bool, mut exact: Vec<Box<str>>, mut prefixes: Vec<Box<str>>, suffixes: Vec<Box<str>>) -> Strings {
        exact.sort_unstable();
        exact.dedup();
        prefixes.sort_unstable();
        prefixes.dedup_by(|longer, shorter| longer.starts_with(&**shorter));
        let mut suffixes: Vec<Box<[u8]>> = suffixes.iter().map(|suffix| suffix.bytes().rev().collect()).collect();
        suffixes.sort_unstable();
        suffixes.dedup_by(|longer, shorter| longer.starts_with(shorter));
        Strings { any, exact: exact.into(), prefixes: prefixes.into(), suffixes: suffixes.into() }
    }

    /// The values, if there are only exact ones.
    pub fn only_exact(&self) -> Option<&[Box<str>]> {
        (!self.any && self.prefixes.is_empty() && self.suffixes.is_empty()).then_some(&*self.exact)
    }

    /// As they are written in a policy.
    pub fn written(&self) -> impl Iterator<Item = String> + '_ {
        let reversed = |suffix: &[u8]| suffix.iter().rev().copied().collect::<Vec<_>>();
        let any = self.any.then(|| "*".to_owned());
        let exact = self.exact.iter().map(|text| text.to_string());
        let prefixes = self.prefixes.iter().map(|prefix| format!("{prefix}*"));
        let suffixes =
            self.suffixes.iter().map(move |suffix| format!("*{}", String::from_utf8_lossy(&reversed(suffix))));
        any.into_iter().chain(exact).chain(prefixes).chain(suffixes)
    }

    pub fn contain(&self, text: &str) -> bool {
        self.any
            || self.exact.binary_search_by(|exact| (**exact).cmp(text)).is_ok()
            || self.begins(text)
            || self.ends(text)
    }

    /// All that sorts between a prefix of the text and the text begins with that prefix: only the last one before the
    /// text can be it.
    fn begins(&self, text: &str) -> bool {
        let after = self.prefixes.partition_point(|prefix| **prefix <= *text);
        after > 0 && text.starts_with(&*self.prefixes[after - 1])
    }

    fn ends(&self, text: &str) -> bool {
        let reversed = || text.bytes().rev();
        let after = self.suffixes.partition_point(|suffix| suffix.iter().copied().le(reversed()));
        let last = after.checked_sub(1).map(|last| &self.suffixes[last]);
        last.is_some_and(|suffix| {
            suffix.len() <= text.len() && suffix.iter().copied().eq(reversed().take(suffix.len()))
        })
    }
}

/// Ranges of addresses, first to last, apart from each other. Those of one family never hold one of the other.
#[derive(Debug, Default, PartialEq)]
pub struct Addresses {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Addresses {
    pub fn new(prefixes: &[Prefix]) -> Addresses {
        let (mut v4, mut v6) = (vec![], vec![]);
        for Prefix { first, length } in prefixes {
            match first {
                IpAddr::V4(first) => {
                    let (first, rest) = (first.to_bits(), u32::MAX.checked_shr(u32::from(*length)).unwrap_or(0));
                    v4.push((first, first | rest));
                }
                IpAddr::V6(first) => {
                    let (first, rest) = (first.to_bits(), u128::MAX.checked_shr(u32::from(*length)).unwrap_or(0));
                    v6.push((first, first | rest));
                }
            }
        }
        Addresses { v4: outermost(v4), v6: outermost(v6) }
    }

    /// As they are written in a policy: each range is a prefix.
    pub fn written(&self) -> impl Iterator<Item = String> + '_ {
        let v4 =
            self.v4.iter().map(|(first, last)| block(Ipv4Addr::from_bits(*first), (first ^ last).leading_zeros(), 32));
        let v6 =
            self.v6.iter().map(|(first, last)| block(Ipv6Addr::from_bits(*first), (first ^ last).leading_zeros(), 128));
        v4.chain(v6)
    }

    pub fn contain(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => within(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => within(&self.v6, ip.to_bits()),
        }
    }
}

/// Two prefixes are apart, or one lies in the other.
fn outermost<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable_by(|(first, last), (other, end)| first.cmp(other).then(end.cmp(last)));
    ranges.dedup_by(|inner, outer| inner.1 <= outer.1);
    ranges.into()
}

fn block(first: impl Display, length: u32, width: u32) -> String {
    if length == width {
        first.to_string()
    } else {
        format!("{first}/{length}")
    }
}

fn within<T: Copy + Ord>(ranges: &[(T, T)], ip: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= ip);
    after > 0 && ip <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(values: &[&str]) -> Strings {
        let boxed = |text: &str| Box::<str>::from(text);
        let (mut any, mut exact, mut prefixes, mut suffixes) = (false, vec![], vec![], vec![]);
        for value in values {
            match (value.strip_prefix('*'), value.strip_suffix('*')) {
                (Some(""), _) => any = true,
                (Some(end), _) => suffixes.push(boxed(end)),
                (_, Some(begin)) => prefixes.push(boxed(begin)),
                _ => exact.push(boxed(value)),
            }
        }
        Strings::new(any, exact, prefixes, suffixes)
    }

    #[test]
    fn texts_are_compared_whole_or_by_an_end() {
        for (values, text, expected) in [
            (&["a", "c"][..], "a", true),
            (&["a", "c"], "b", false),
            (&["a"], "A", false),
            (&[], "a", false),
            (&["*"], "", true),
            (&["ab*"], "ab", true),
            (&["ab*"], "a", false),
            (&["a*", "abc*", "b*"], "abd", true),
            (&["a*", "c*"], "b", false),
            (&["aa*", "ab*"], "ac", false),
            (&["*ab"], "ab", true),
            (&["*ab"], "cab", true),
            (&["*ab"], "b", false),
            (&["*b", "*ab", "*ac"], "xb", true),
            (&["*ba", "*bb"], "bc", false),
            (&["*aaaa"], "aaa", false),
            (&["x", "a*", "*z"], "z", true),
        ] {
            assert_eq!(strings(values).contain(text), expected, "{values:?} {text:?}");
        }
    }

    #[test]
    fn nested_prefixes_are_one_range() {
        let prefix = |text: &str| {
            let (ip, length) = text.split_once('/').unwrap();
            Prefix::around(ip.parse().unwrap(), length.parse().unwrap()).unwrap()
        };
        let addresses =
            Addresses::new(&["10.1.0.0/16", "10.0.0.0/8", "10.1.2.0/24", "12.0.0.1/32", "fd00::/8"].map(prefix));
        assert_eq!((addresses.v4.len(), addresses.v6.len()), (2, 1));
        for (ip, expected) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("10.1.3.0", true),
            ("11.0.0.0", false),
            ("12.0.0.1", true),
            ("12.0.0.2", false),
            ("9.255.255.255", false),
            ("fdff::1", true),
            ("fe00::", false),
        ] {
            assert_eq!(addresses.contain(ip.parse().unwrap()), expected, "{ip}");
        }
        let all = Addresses::new(&["::/0"].map(prefix));
        assert!(all.contain("fd00::1".parse().unwrap()) && !all.contain("10.0.0.1".parse().unwrap()));
        assert!(Addresses::new(&["0.0.0.0/0"].map(prefix)).contain("255.255.255.255".parse().unwrap()));
    }
}
