//! What a string is compared with: Istio's StringMatch, Gateway API's values of headers and queries.

use std::fmt;

use regex::bytes::Regex;

use super::proto::{self, StringKind};
use super::re2;

/// A condition on a value. Cases are those of ASCII, as in Envoy.
#[derive(Clone, Debug)]
pub struct Text {
    pub(super) kind: Kind,
    pub(super) ignore_case: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Regex(Regex, Box<str>),
    Present,
}

impl Text {
    pub fn decode(sent: &proto::StringMatch) -> Result<Text, String> {
        let kind = match sent.kind.as_ref().ok_or("a comparison without a kind")? {
            StringKind::Exact(text) => Kind::Exact(text.as_str().into()),
            StringKind::Prefix(text) => Kind::Prefix(text.as_str().into()),
            StringKind::Suffix(text) => Kind::Suffix(text.as_str().into()),
            StringKind::Regex(pattern) => Kind::Regex(re2::whole(pattern)?, pattern.as_str().into()),
            StringKind::Present(_) => Kind::Present,
        };
        Ok(Text { kind, ignore_case: sent.ignore_case })
    }

    pub fn matches(&self, value: &[u8]) -> bool {
        match &self.kind {
            Kind::Exact(text) => same(value, text.as_bytes(), self.ignore_case),
            Kind::Prefix(text) => starts_with(value, text.as_bytes(), self.ignore_case),
            Kind::Suffix(text) => {
                let end = value.len().checked_sub(text.len()).map(|start| &value[start..]);
                end.is_some_and(|end| same(end, text.as_bytes(), self.ignore_case))
            }
            Kind::Regex(regex, _) => regex.is_match(value),
            Kind::Present => true,
        }
    }

    pub fn is_presence(&self) -> bool {
        matches!(self.kind, Kind::Present)
    }
}

pub(super) fn same(value: &[u8], text: &[u8], ignore_case: bool) -> bool {
    match ignore_case {
        true => value.eq_ignore_ascii_case(text),
        false => value == text,
    }
}

pub(super) fn starts_with(value: &[u8], text: &[u8], ignore_case: bool) -> bool {
    value.get(..text.len()).is_some_and(|start| same(start, text, ignore_case))
}

/// As in "header x is not /v1.../".
impl fmt::Display for Text {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Exact(text) => write!(to, "'{text}'"),
            Kind::Prefix(text) => write!(to, "'{text}...'"),
            Kind::Suffix(text) => write!(to, "'...{text}'"),
            Kind::Regex(_, pattern) => write!(to, "regex '{pattern}'"),
            Kind::Present => write!(to, "present"),
        }?;
        match self.ignore_case {
            true => write!(to, " (ignoring case)"),
            false => Ok(()),
        }
    }
}
