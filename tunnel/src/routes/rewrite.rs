//! The path and authority of a request that is forwarded, and the Location of one that is redirected.

use std::borrow::Cow;

use regex::bytes::Regex;

use super::matching::{HttpMatch, Request};
use super::proto::{self, RewritePath};
use super::re2;

/// How a path becomes another; the query stays.
#[derive(Debug)]
pub enum PathRewrite {
    Full(Box<str>),
    /// In place of what the match's prefix matched (VirtualService).
    Prefix(Box<str>),
    /// In place of the segments of the match's prefix (Gateway API); without the slash at its end.
    Segments(Box<str>),
    /// Wherever it matches, with the substitution in the words of the `regex` crate.
    Regex(Regex, Box<str>),
}

impl PathRewrite {
    pub fn decode(sent: &RewritePath) -> Result<PathRewrite, String> {
        Ok(match sent {
            RewritePath::Full(path) => PathRewrite::Full(path.as_str().into()),
            RewritePath::Prefix(prefix) => PathRewrite::Prefix(prefix.as_str().into()),
            RewritePath::SegmentPrefix(prefix) => PathRewrite::segments(prefix),
            RewritePath::Regex(proto::RegexRewrite { pattern, substitution }) => {
                let regex = re2::anywhere(pattern)?;
                let substitution = re2::substitution(substitution, &regex)?;
                PathRewrite::Regex(regex, substitution)
            }
        })
    }

    fn segments(prefix: &str) -> PathRewrite {
        PathRewrite::Segments(prefix.trim_end_matches('/').into())
    }

    /// The new path of a request that matched.
    pub fn apply(&self, matched: Option<&HttpMatch>, path: &str) -> String {
        let rest = || path.get(matched_length(matched, path)..).unwrap_or_default();
        match self {
            PathRewrite::Full(path) => path.to_string(),
            PathRewrite::Prefix(prefix) => format!("{prefix}{}", rest()),
            PathRewrite::Segments(prefix) => match rest() {
                "" if prefix.is_empty() => "/".to_owned(),
                rest if rest.is_empty() || rest.starts_with('/') => format!("{prefix}{rest}"),
                rest => format!("{prefix}/{rest}"),
            },
            PathRewrite::Regex(regex, substitution) => {
                String::from_utf8_lossy(&regex.replace_all(path.as_bytes(), substitution.as_bytes())).into()
            }
        }
    }
}

/// A match without a path is Istio's prefix `/`.
fn matched_length(matched: Option<&HttpMatch>, path: &str) -> usize {
    matched.and_then(|matched| matched.path()).map_or(1, |condition| condition.matched(path)).min(path.len())
}

/// The parts of a Location that are not the request's own.
#[derive(Debug)]
pub struct RedirectTo {
    path: Option<PathRewrite>,
    authority: Option<Box<str>>,
    scheme: Option<Box<str>>,
    port: Option<u16>,
    request_port: bool,
}

impl RedirectTo {
    pub fn decode(sent: &proto::Redirect) -> Result<RedirectTo, String> {
        let text = |text: &str| (!text.is_empty()).then(|| text.into());
        Ok(RedirectTo {
            path: sent.path.as_ref().map(|path| match path {
                proto::RedirectPath::Full(path) => PathRewrite::Full(path.as_str().into()),
                proto::RedirectPath::Prefix(prefix) => PathRewrite::Prefix(prefix.as_str().into()),
                proto::RedirectPath::SegmentPrefix(prefix) => PathRewrite::segments(prefix),
            }),
            authority: text(&sent.authority),
            scheme: text(&sent.scheme),
            port: super::matching::port(sent.port)?,
            request_port: sent.request_port,
        })
    }

    /// What the header Location says, as Envoy makes it of Istio's configuration.
    pub fn location(&self, matched: Option<&HttpMatch>, request: &Request<'_>) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(request.scheme);
        let port =
            self.port.or(self.request_port.then_some(request.port)).filter(|port| default_port(scheme) != Some(*port));
        let authority = match &self.authority {
            Some(authority) => authority,
            None => host(request, scheme, port.is_some()),
        };
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{scheme}://{authority}{port}{}", self.target(matched, request))
    }

    fn target(&self, matched: Option<&HttpMatch>, request: &Request<'_>) -> String {
        let path: Cow<'_, str> = match &self.path {
            Some(rewrite) => rewrite.apply(matched, request.path).into(),
            None => request.path.into(),
        };
        match request.query {
            Some(query) if !path.contains('?') => format!("{path}?{query}"),
            _ => path.into(),
        }
    }
}

/// The request's authority, without its port where another takes its place, or where it was the default of a scheme
/// that changes.
fn host<'a>(request: &Request<'a>, scheme: &str, replaced: bool) -> &'a str {
    let Some((host, port)) = split_port(request.authority) else { return request.authority };
    let default =
        scheme != request.scheme && default_port(request.scheme).is_some_and(|known| port == known.to_string());
    if replaced || default {
        host
    } else {
        request.authority
    }
}

/// Host and port of an authority that has both. An IPv6 address is in brackets.
fn split_port(authority: &str) -> Option<(&str, &str)> {
    authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}
