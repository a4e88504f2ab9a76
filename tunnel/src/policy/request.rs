//! What a match of a policy asks of a request (`istio.security.RequestTest`).

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::condition::{Addresses, Strings};
use super::forms;
use super::template::Template;
use super::token::Token;

/// A request, as far as policies look at it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Host and, where the client has written one, port.
    pub authority: &'a str,
    /// As it goes on to the application, without its query.
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    /// The client's address behind trusted proxies.
    pub remote: IpAddr,
    /// None: it has none that is valid.
    pub token: Option<&'a Token>,
}

/// A request with the other forms that an application may take its path and host for, found out once.
#[derive(Debug)]
pub struct Seen<'a> {
    pub request: Request<'a>,
    paths: OnceCell<Vec<String>>,
    hosts: OnceCell<(String, Vec<String>)>,
}

/// That an attribute has any of some values.
#[derive(Debug, PartialEq)]
pub enum Condition {
    /// Without case.
    Host(Strings),
    Method(Strings),
    Path(Strings, Box<[Template]>),
    Header(HeaderName, Strings),
    Remote(Addresses),
    Principal(Strings),
    Audience(Strings),
    Presenter(Strings),
    /// By the steps to it.
    Claim(Box<[Box<str>]>, Strings),
}

impl<'a> From<Request<'a>> for Seen<'a> {
    fn from(request: Request<'a>) -> Self {
        Seen { request, paths: OnceCell::new(), hosts: OnceCell::new() }
    }
}

impl Seen<'_> {
    /// The path, and what else it may be taken for.
    fn paths(&self) -> impl Iterator<Item = &str> {
        let others = self.paths.get_or_init(|| forms::paths(self.request.path));
        std::iter::once(self.request.path).chain(others.iter().map(|path| &**path))
    }

    /// The authority in lower case, and what else it may be taken for.
    fn hosts(&self) -> &(String, Vec<String>) {
        self.hosts.get_or_init(|| {
            let host = self.request.authority.to_ascii_lowercase();
            let others = forms::hosts(&host);
            (host, others)
        })
    }

    fn claims(&self, steps: &[&str], test: impl Fn(&str) -> bool) -> bool {
        self.request.token.is_some_and(|token| token.any(steps, test))
    }
}

impl Condition {
    pub fn holds(&self, seen: &Seen<'_>, any_form: bool) -> bool {
        let request = &seen.request;
        match self {
            Condition::Host(values) => {
                let (host, others) = seen.hosts();
                // `h` and `h:80` are two values to whoever writes them: for ALLOW only the one that was sent counts.
                values.contain(host) || any_form && others.iter().any(|other| values.contain(other))
            }
            Condition::Method(values) => values.contain(request.method),
            Condition::Path(values, templates) => {
                let fits = |path: &str| values.contain(path) || templates.iter().any(|template| template.fits(path));
                of_forms(seen.paths(), any_form, fits)
            }
            Condition::Header(name, values) => header(request.headers, name, any_form, |value| values.contain(value)),
            Condition::Remote(ranges) => ranges.contain(request.remote),
            Condition::Principal(values) => {
                let principal = request.token.and_then(|token| token.principal.as_deref());
                principal.is_some_and(|principal| values.contain(principal))
            }
            Condition::Audience(values) => seen.claims(&["aud"], |value| values.contain(value)),
            Condition::Presenter(values) => seen.claims(&["azp"], |value| values.contain(value)),
            Condition::Claim(steps, values) => {
                request.token.is_some_and(|token| token.any(steps, |value| values.contain(value)))
            }
        }
    }

    /// As policies name it, and its opposite.
    pub fn names(&self) -> [Cow<'static, str>; 2] {
        let field = |name: &'static str, not_name: &'static str| [name.into(), not_name.into()];
        let key = |key: String| [key.clone().into(), format!("{key} (notValues)").into()];
        match self {
            Condition::Host(_) => field("hosts", "notHosts"),
            Condition::Method(_) => field("methods", "notMethods"),
            Condition::Path(..) => field("paths", "notPaths"),
            Condition::Header(name, _) => key(format!("request.headers[{name}]")),
            Condition::Remote(_) => field("remoteIpBlocks", "notRemoteIpBlocks"),
            Condition::Principal(_) => field("requestPrincipals", "notRequestPrincipals"),
            Condition::Audience(_) => key("request.auth.audiences".to_owned()),
            Condition::Presenter(_) => key("request.auth.presenter".to_owned()),
            Condition::Claim(steps, _) => {
                let steps = steps.iter().map(|step| format!("[{step}]")).collect::<String>();
                key(format!("request.auth.claims{steps}"))
            }
        }
    }

    /// As they are written in a policy.
    pub fn written(&self) -> Vec<String> {
        match self {
            Condition::Path(values, templates) => {
                values.written().chain(templates.iter().map(Template::to_string)).collect()
            }
            Condition::Remote(ranges) => ranges.written().collect(),
            Condition::Host(values)
            | Condition::Method(values)
            | Condition::Header(_, values)
            | Condition::Principal(values)
            | Condition::Audience(values)
            | Condition::Presenter(values)
            | Condition::Claim(_, values) => values.written().collect(),
        }
    }

    /// What the request has there; None: nothing.
    pub fn found(&self, seen: &Seen<'_>) -> Option<String> {
        let request = &seen.request;
        let claim = |steps: &[&str]| request.token.and_then(|token| token.written(steps));
        match self {
            Condition::Host(_) => Some(request.authority.to_owned()),
            Condition::Method(_) => Some(request.method.to_owned()),
            Condition::Path(..) => Some(request.path.to_owned()),
            Condition::Header(name, _) => {
                let lines = request.headers.get_all(name).iter();
                let lines = lines.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
                Some(lines.collect::<Vec<_>>()).filter(|lines| !lines.is_empty()).map(|lines| lines.join(","))
            }
            Condition::Remote(_) => Some(request.remote.to_string()),
            Condition::Principal(_) => request.token?.principal.as_deref().map(str::to_owned),
            Condition::Audience(_) => claim(&["aud"]),
            Condition::Presenter(_) => claim(&["azp"]),
            Condition::Claim(steps, _) => claim(&steps.iter().map(|step| &**step).collect::<Vec<_>>()),
        }
    }
}

/// Any of the forms, or all; without any it does not hold.
fn of_forms<'a>(mut forms: impl Iterator<Item = &'a str>, any_form: bool, fits: impl Fn(&str) -> bool) -> bool {
    if any_form {
        return forms.any(fits);
    }
    forms.next().is_some_and(&fits) && forms.all(fits)
}

/// Each line is a form, and so are all lines together (RFC 9110 section 5.3). A value that is no text has none.
fn header(headers: &HeaderMap, name: &HeaderName, any_form: bool, fits: impl Fn(&str) -> bool) -> bool {
    let text = |value: &HeaderValue| std::str::from_utf8(value.as_bytes()).map(str::to_owned).unwrap_or_default();
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => false,
        (Some(only), None) => fits(std::str::from_utf8(only.as_bytes()).unwrap_or_default()),
        _ => {
            let mut forms: Vec<String> = headers.get_all(name).iter().map(text).collect();
            forms.push(forms.join(","));
            of_forms(forms.iter().map(|form| &**form), any_form, fits)
        }
    }
}
