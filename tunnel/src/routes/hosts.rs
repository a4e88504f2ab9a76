//! What is said of host names, found by the pattern that names a host best: exact, then the longest wildcard, then `*`.

use std::borrow::Cow;
use std::collections::HashMap;

#[derive(Debug)]
pub struct Hosts<T> {
    exact: HashMap<Box<str>, T>,
    /// `.example.com` for `*.example.com`, the longest first.
    wildcards: Vec<(Box<str>, T)>,
    any: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Hosts { exact: HashMap::new(), wildcards: vec![], any: None }
    }
}

impl<T> Hosts<T> {
    /// Fails for a pattern that is there twice.
    pub fn new<'a>(all: impl IntoIterator<Item = (&'a str, T)>) -> Result<Hosts<T>, String> {
        let mut hosts = Hosts::default();
        for (pattern, what) in all {
            let lower = pattern.to_ascii_lowercase();
            let twice = match lower.strip_prefix('*') {
                Some("") => hosts.any.replace(what).is_some(),
                Some(suffix) => {
                    let known = hosts.wildcards.iter().any(|(other, _)| **other == *suffix);
                    hosts.wildcards.push((suffix.into(), what));
                    known
                }
                None => hosts.exact.insert(lower.into(), what).is_some(),
            };
            if twice {
                return Err(format!("host {pattern} is there twice"));
            }
        }
        hosts.wildcards.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        Ok(hosts)
    }

    /// Of a name without a port.
    pub fn get(&self, name: &str) -> Option<&T> {
        if self.is_one_for_all() {
            return self.any();
        }
        let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        let below = |suffix: &str| name.len() > suffix.len() && name.ends_with(suffix);
        let wildcard = || self.wildcards.iter().find(|(suffix, _)| below(suffix)).map(|(_, what)| what);
        self.exact.get(&*name).or_else(wildcard).or(self.any.as_ref())
    }

    /// Of whoever names none.
    pub fn any(&self) -> Option<&T> {
        self.any.as_ref()
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.wildcards.iter().map(|(_, what)| what)).chain(&self.any)
    }

    /// All patterns but `*`, in no order.
    pub fn patterns(&self) -> impl Iterator<Item = (String, &T)> {
        let exact = self.exact.iter().map(|(name, what)| (name.to_string(), what));
        exact.chain(self.wildcards.iter().map(|(suffix, what)| (format!("*{suffix}"), what)))
    }

    /// All patterns, in the order of the alphabet.
    pub fn all(&self) -> Vec<(String, &T)> {
        let any = self.any().map(|what| ("*".to_owned(), what));
        let mut all: Vec<_> = self.patterns().chain(any).collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// Whether there is nothing but `*`.
    pub fn is_one_for_all(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_that_names_it_best_holds() {
        let patterns = ["*", "*.example.com", "*.a.example.com", "b.a.example.com"];
        let hosts = Hosts::new(patterns.map(|pattern| (pattern, pattern))).unwrap();
        for (name, expected) in [
            ("B.a.example.com", "b.a.example.com"),
            ("x.a.example.com", "*.a.example.com"),
            ("x.y.a.example.com", "*.a.example.com"),
            ("a.example.com", "*.example.com"),
            ("example.com", "*"),
            (".example.com", "*"),
            ("b.a.example.com.", "*"),
        ] {
            assert_eq!(hosts.get(name), Some(&expected), "{name}");
        }
        assert_eq!(hosts.any(), Some(&"*"));
        assert_eq!(Hosts::new([("*.a.b", ())]).unwrap().get("a.b"), None);
        assert_eq!(Hosts::new([("A.b", ()), ("a.B", ())]).unwrap_err(), "host a.B is there twice");
    }
}
