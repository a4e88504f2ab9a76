//! The first of many rules that matches, found without trying all: candidates are looked up by exact path, by the value of a
//! header, by prefix, by regular expressions tried at once. Each candidate is then tested whole, so the index only ever
//! leaves out what cannot match.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;
use regex::bytes::RegexSet;

use super::matching::{Client, Condition, Field, HttpMatch, Request};
use super::path::{self, Path};
use super::re2;
use super::rule::HttpRule;
use super::text::{self, Text};

/// Below this many expressions trying them one after the other is faster than a set.
const FEW: usize = 8;

/// A match of a rule: their places. None: the rule always matches.
pub type Place = (usize, Option<usize>);

/// Places in `Index::matches`, ascending.
type Candidates = Vec<u32>;
type ByValue = HashMap<Box<[u8]>, Candidates>;

#[derive(Debug, Default)]
pub struct Index {
    /// All matches of all rules, in the order of evaluation.
    matches: Vec<Place>,
    exact: HashMap<Box<str>, Candidates>,
    prefixes: Prefixes,
    /// Paths compared without case, in lower case.
    folded_exact: HashMap<Box<str>, Candidates>,
    folded_prefixes: Prefixes,
    headers: Vec<(HeaderName, ByValue)>,
    regexes: Option<(RegexSet, Candidates)>,
    others: Candidates,
}

impl Index {
    pub fn new(rules: &[Arc<HttpRule>]) -> Result<Index, String> {
        let mut index = Index::default();
        let mut regexes = vec![];
        for (rule_place, rule) in rules.iter().enumerate() {
            for (match_place, one) in rule.matches.iter().enumerate() {
                let candidate = index.number((rule_place, Some(match_place)));
                index.insert(candidate, one, &mut regexes);
            }
            if rule.matches.is_empty() {
                let candidate = index.number((rule_place, None));
                index.others.push(candidate);
            }
        }
        match regexes.len() {
            0..FEW => index.others.extend(regexes.iter().map(|(candidate, _)| candidate)),
            _ => {
                let set = re2::set(regexes.iter().map(|(_, regex)| regex))?;
                index.regexes = Some((set, regexes.iter().map(|(candidate, _)| *candidate).collect()));
            }
        }
        index.others.sort_unstable();
        index.prefixes.link();
        index.folded_prefixes.link();
        Ok(index)
    }

    fn number(&mut self, place: Place) -> u32 {
        self.matches.push(place);
        self.matches.len() as u32 - 1
    }

    /// Puts a match where the fewest requests will find it.
    fn insert(&mut self, candidate: u32, one: &HttpMatch, regexes: &mut Vec<(u32, regex::bytes::Regex)>) {
        match (one.path(), exact_header(one)) {
            (Some(Path { kind: path::Kind::Exact(path), ignore_case: false }), _) => {
                self.exact.entry(path.clone()).or_default().push(candidate);
            }
            (_, Some((name, value))) => self.header(name).entry(value.as_bytes().into()).or_default().push(candidate),
            (Some(Path { kind: path::Kind::Exact(path), ignore_case: true }), None) => {
                self.folded_exact.entry(path.to_ascii_lowercase().into()).or_default().push(candidate);
            }
            (Some(Path { kind: path::Kind::Prefix(path) | path::Kind::Segments(path), ignore_case }), None) => {
                match ignore_case {
                    false => self.prefixes.insert(path.clone(), candidate),
                    true => self.folded_prefixes.insert(path.to_ascii_lowercase().into(), candidate),
                }
            }
            (Some(Path { kind: path::Kind::Regex(regex, _), .. }), None) => regexes.push((candidate, regex.clone())),
            (None, None) => self.others.push(candidate),
        }
    }

    fn header(&mut self, name: &HeaderName) -> &mut ByValue {
        let place = self.headers.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.headers.push((name.clone(), ByValue::new()));
            self.headers.len() - 1
        });
        &mut self.headers[place].1
    }

    /// The first match that holds.
    pub fn find(&self, rules: &[Arc<HttpRule>], client: &Client<'_>, request: &Request<'_>) -> Option<Place> {
        let holds = |candidate: u32| match self.matches[candidate as usize] {
            (rule, Some(one)) => rules[rule].matches[one].unmet(client, request).is_none(),
            (_, None) => true,
        };
        let mut best = u32::MAX;
        let mut scan = |candidates: &[u32]| {
            let earlier = candidates.iter().take_while(|candidate| **candidate < best);
            best = earlier.copied().find(|candidate| holds(*candidate)).unwrap_or(best);
        };
        self.exact.get(request.path).into_iter().for_each(|candidates| scan(candidates));
        self.prefixes.each(request.path, &mut scan);
        self.scan_folded(request.path, &mut scan);
        for (name, values) in &self.headers {
            let found = request.headers.get_all(name).iter().filter_map(|value| values.get(value.as_bytes()));
            found.for_each(|candidates| scan(candidates));
        }
        if let Some((set, candidates)) = &self.regexes {
            set.matches(request.path.as_bytes()).iter().for_each(|place| scan(&candidates[place..=place]));
        }
        scan(&self.others);
        self.matches.get(best as usize).copied()
    }

    fn scan_folded(&self, path: &str, scan: &mut impl FnMut(&[u32])) {
        if self.folded_exact.is_empty() && self.folded_prefixes.0.is_empty() {
            return;
        }
        let path = path.to_ascii_lowercase();
        self.folded_exact.get(&*path).into_iter().for_each(|candidates| scan(candidates));
        self.folded_prefixes.each(&path, scan);
    }
}

fn exact_header(one: &HttpMatch) -> Option<(&HeaderName, &str)> {
    one.conditions.iter().find_map(|condition| match condition {
        Condition::Header(Field::Header(name), Text { kind: text::Kind::Exact(value), ignore_case: false }) => {
            Some((name, &**value))
        }
        _ => None,
    })
}

/// Strings, of which all are found that a path begins with.
#[derive(Debug, Default)]
struct Prefixes(Vec<Prefix>);

#[derive(Debug)]
struct Prefix {
    text: Box<str>,
    /// The place of the longest other one that this begins with.
    parent: Option<usize>,
    candidates: Candidates,
}

impl Prefixes {
    fn insert(&mut self, text: Box<str>, candidate: u32) {
        self.0.push(Prefix { text, parent: None, candidates: vec![candidate] });
    }

    /// Sorts, unites equal ones and tells each its parent.
    fn link(&mut self) {
        self.0.sort_by(|one, other| one.text.cmp(&other.text));
        self.0.dedup_by(|later, kept| {
            let equal = later.text == kept.text;
            if equal {
                kept.candidates.append(&mut later.candidates);
            }
            equal
        });
        for place in 1..self.0.len() {
            let text = &self.0[place].text;
            let parent = self.chain(Some(place - 1)).find(|above| text.starts_with(&*self.0[*above].text));
            self.0[place].parent = parent;
        }
    }

    /// A prefix and its parents.
    fn chain(&self, from: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(from, |place| self.0[*place].parent)
    }

    /// In sorted order whatever lies between a prefix of the path and the path begins with that prefix as well: so
    /// all prefixes are parents of the last one that is not behind the path.
    fn each(&self, path: &str, mut tell: impl FnMut(&[u32])) {
        let last = self.0.partition_point(|prefix| *prefix.text <= *path).checked_sub(1);
        let fitting = self.chain(last).filter(|place| path.starts_with(&*self.0[*place].text));
        fitting.for_each(|place| tell(&self.0[place].candidates));
    }
}
