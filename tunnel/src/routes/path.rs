//! Conditions on a request's path.

use std::fmt;

use regex::bytes::Regex;

use super::proto::{self, PathKind};
use super::re2;
use super::text::{same, starts_with};

#[derive(Clone, Debug)]
pub struct Path {
    pub(super) kind: Kind,
    pub(super) ignore_case: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Exact(Box<str>),
    Prefix(Box<str>),
    /// Whole segments; without the slash at its end.
    Segments(Box<str>),
    Regex(Regex, Box<str>),
}

impl Path {
    pub fn decode(sent: &proto::PathMatch) -> Result<Path, String> {
        let kind = match sent.kind.as_ref().ok_or("a path without a kind")? {
            PathKind::Exact(path) => Kind::Exact(path.as_str().into()),
            PathKind::Prefix(path) => Kind::Prefix(path.as_str().into()),
            PathKind::SegmentPrefix(path) => Kind::Segments(path.trim_end_matches('/').into()),
            PathKind::Regex(pattern) => Kind::Regex(re2::whole(pattern)?, pattern.as_str().into()),
        };
        Ok(Path { kind, ignore_case: sent.ignore_case })
    }

    pub fn matches(&self, path: &str) -> bool {
        let path = path.as_bytes();
        match &self.kind {
            Kind::Exact(text) => same(path, text.as_bytes(), self.ignore_case),
            Kind::Prefix(text) => starts_with(path, text.as_bytes(), self.ignore_case),
            Kind::Segments(text) => {
                starts_with(path, text.as_bytes(), self.ignore_case)
                    && matches!(path.get(text.len()), None | Some(b'/'))
            }
            Kind::Regex(regex, _) => regex.is_match(path),
        }
    }

    /// How much of a path that matches is what a rewrite of the prefix replaces.
    pub fn matched(&self, path: &str) -> usize {
        match &self.kind {
            Kind::Prefix(text) | Kind::Segments(text) => text.len(),
            Kind::Exact(_) | Kind::Regex(..) => path.len(),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Exact(text) => write!(to, "'{text}'"),
            Kind::Prefix(text) => write!(to, "'{text}...'"),
            Kind::Segments(text) => write!(to, "'{text}/...'"),
            Kind::Regex(_, pattern) => write!(to, "regex '{pattern}'"),
        }?;
        match self.ignore_case {
            true => write!(to, " (ignoring case)"),
            false => Ok(()),
        }
    }
}
