//! One match of an HTTP rule, and why it does not hold for a request.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};

use super::labels::Labels;
use super::path::Path;
use super::proto;
use super::text::Text;
use super::within::Within;

/// The pod that sends.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    pub namespace: &'a str,
    pub labels: &'a Labels,
}

/// A request's head, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a Method,
    pub scheme: &'a str,
    pub authority: &'a str,
    /// Normalised, without the query.
    pub path: &'a str,
    /// What follows the `?`; None: there is none.
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// The service's port.
    pub port: u16,
}

impl<'a> Request<'a> {
    /// The first value of a query's parameter, as it is written in the URL; empty for a name alone.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        let pairs = self.query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The path with the query.
    pub fn target(&self) -> Cow<'a, str> {
        match self.query {
            Some(query) => format!("{}?{query}", self.path).into(),
            None => self.path.into(),
        }
    }
}

/// All of its conditions must hold.
#[derive(Debug)]
pub struct HttpMatch {
    /// The name of a request's route that matches: "rule", "rule.match".
    pub route: Arc<str>,
    pub(super) path: Option<Path>,
    method: Option<Text>,
    scheme: Option<Text>,
    authority: Option<Text>,
    pub(super) headers: Box<[Named<Field>]>,
    without_headers: Box<[Named<Field>]>,
    query: Box<[Named<Box<str>>]>,
    port: Option<u16>,
    source_namespace: Option<Box<str>>,
    source_labels: Labels,
}

/// A header or parameter with the condition on its value.
#[derive(Debug)]
pub struct Named<T> {
    pub(super) name: T,
    pub(super) value: Text,
}

/// A header, or a pseudo-header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    Header(HeaderName),
    Method,
    Scheme,
    Authority,
    Path,
}

/// The condition that does not hold.
#[derive(Debug)]
pub enum Mismatch<'a> {
    Path(&'a Path),
    Method(&'a Text),
    Scheme(&'a Text),
    Authority(&'a Text),
    HeaderMissing(&'a Field),
    Header(&'a Field, &'a Text),
    WithoutHeader(&'a Field, &'a Text),
    QueryMissing(&'a str),
    Query(&'a str, &'a Text),
    Port(u16),
    SourceNamespace(&'a str),
    SourceLabel(&'a str, &'a str),
}

impl HttpMatch {
    pub fn decode(sent: &proto::HttpMatch, rule: &str) -> Result<HttpMatch, String> {
        let text = |sent: &Option<proto::StringMatch>| sent.as_ref().map(Text::decode).transpose();
        let fields = |sent: &[proto::NamedMatch]| sent.iter().map(field).collect::<Result<_, String>>();
        Ok(HttpMatch {
            route: if sent.name.is_empty() { rule.into() } else { format!("{rule}.{}", sent.name).into() },
            path: sent.path.as_ref().map(Path::decode).transpose().within("path")?,
            method: text(&sent.method).within("method")?,
            scheme: text(&sent.scheme).within("scheme")?,
            authority: text(&sent.authority).within("authority")?,
            headers: fields(&sent.headers).within("headers")?,
            without_headers: fields(&sent.without_headers).within("without_headers")?,
            query: sent.query.iter().map(parameter).collect::<Result<_, String>>().within("query")?,
            port: port(sent.port)?,
            source_namespace: (!sent.source_namespace.is_empty()).then(|| sent.source_namespace.as_str().into()),
            source_labels: Labels::from(&sent.source_labels),
        })
    }

    /// The first condition that does not hold, cheap ones first.
    pub fn test(&self, client: &Client<'_>, request: &Request<'_>) -> Result<(), Mismatch<'_>> {
        let differs = |text: &Text, value: &str| !text.matches(value.as_bytes());
        if let Some(path) = self.path.as_ref().filter(|path| !path.matches(request.path)) {
            return Err(Mismatch::Path(path));
        }
        if let Some(method) = self.method.as_ref().filter(|method| differs(method, request.method.as_str())) {
            return Err(Mismatch::Method(method));
        }
        if let Some(port) = self.port.filter(|port| *port != request.port) {
            return Err(Mismatch::Port(port));
        }
        if let Some(scheme) = self.scheme.as_ref().filter(|scheme| differs(scheme, request.scheme)) {
            return Err(Mismatch::Scheme(scheme));
        }
        if let Some(authority) = self.authority.as_ref().filter(|authority| differs(authority, request.authority)) {
            return Err(Mismatch::Authority(authority));
        }
        self.headers.iter().try_for_each(|header| header.test(request))?;
        self.without_headers.iter().try_for_each(|header| header.test_without(request))?;
        self.query.iter().try_for_each(|parameter| parameter.test(request))?;
        self.test_client(client)
    }

    fn test_client(&self, client: &Client<'_>) -> Result<(), Mismatch<'_>> {
        if let Some(namespace) = self.source_namespace.as_deref().filter(|namespace| *namespace != client.namespace) {
            return Err(Mismatch::SourceNamespace(namespace));
        }
        let missing = self.source_labels.missing_in(client.labels);
        missing.map_or(Ok(()), |(key, value)| Err(Mismatch::SourceLabel(key, value)))
    }
}

impl Named<Field> {
    fn test(&self, request: &Request<'_>) -> Result<(), Mismatch<'_>> {
        match self.name.of(request) {
            None => Err(Mismatch::HeaderMissing(&self.name)),
            Some(value) if self.value.matches(&value) => Ok(()),
            Some(_) => Err(Mismatch::Header(&self.name, &self.value)),
        }
    }

    /// A header that is missing is taken as empty, unless its presence is asked for.
    fn test_without(&self, request: &Request<'_>) -> Result<(), Mismatch<'_>> {
        let value = match self.name.of(request) {
            None if self.value.is_presence() => return Ok(()),
            value => value.unwrap_or_default(),
        };
        match self.value.matches(&value) {
            true => Err(Mismatch::WithoutHeader(&self.name, &self.value)),
            false => Ok(()),
        }
    }
}

impl Named<Box<str>> {
    fn test(&self, request: &Request<'_>) -> Result<(), Mismatch<'_>> {
        match request.parameter(&self.name) {
            None => Err(Mismatch::QueryMissing(&self.name)),
            Some(value) if self.value.matches(value.as_bytes()) => Ok(()),
            Some(_) => Err(Mismatch::Query(&self.name, &self.value)),
        }
    }
}

impl Field {
    pub fn decode(name: &str) -> Result<Field, String> {
        Ok(match name {
            ":method" => Field::Method,
            ":scheme" => Field::Scheme,
            ":authority" => Field::Authority,
            ":path" => Field::Path,
            name => match HeaderName::try_from(name).map_err(|_| format!("'{name}' is no name of a header"))? {
                // HTTP/1.1 names it so; the codec hands on the authority only.
                name if name == http::header::HOST => Field::Authority,
                name => Field::Header(name),
            },
        })
    }

    /// Its value; several are joined by commas, as Envoy does.
    pub fn of<'a>(&self, request: &Request<'a>) -> Option<Cow<'a, [u8]>> {
        match self {
            Field::Header(name) => joined(request.headers, name),
            Field::Method => Some(request.method.as_str().as_bytes().into()),
            Field::Scheme => Some(request.scheme.as_bytes().into()),
            Field::Authority => Some(request.authority.as_bytes().into()),
            Field::Path => Some(match request.target() {
                Cow::Borrowed(target) => target.as_bytes().into(),
                Cow::Owned(target) => target.into_bytes().into(),
            }),
        }
    }
}

pub(super) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let mut joined = Cow::from(values.next()?.as_bytes());
    for value in values {
        let joined = joined.to_mut();
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    Some(joined)
}

fn field(sent: &proto::NamedMatch) -> Result<Named<Field>, String> {
    Ok(Named { name: Field::decode(&sent.name)?, value: value(sent)? })
}

fn parameter(sent: &proto::NamedMatch) -> Result<Named<Box<str>>, String> {
    Ok(Named { name: sent.name.as_str().into(), value: value(sent)? })
}

fn value(sent: &proto::NamedMatch) -> Result<Text, String> {
    sent.value.as_ref().ok_or_else(|| "no value".to_owned()).and_then(Text::decode).within(&sent.name)
}

/// 0 is none.
pub(super) fn port(sent: u32) -> Result<Option<u16>, String> {
    let port = u16::try_from(sent).map_err(|_| format!("port {sent} is out of range"))?;
    Ok((port != 0).then_some(port))
}

impl fmt::Display for Field {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Field::Header(name) => name.as_str(),
            Field::Method => ":method",
            Field::Scheme => ":scheme",
            Field::Authority => ":authority",
            Field::Path => ":path",
        })
    }
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Path(path) => write!(to, "path is not {path}"),
            Mismatch::Method(text) => write!(to, "method is not {text}"),
            Mismatch::Scheme(text) => write!(to, "scheme is not {text}"),
            Mismatch::Authority(text) => write!(to, "authority is not {text}"),
            Mismatch::HeaderMissing(name) => write!(to, "header {name} is missing"),
            Mismatch::Header(name, text) => write!(to, "header {name} is not {text}"),
            Mismatch::WithoutHeader(name, text) => write!(to, "header {name} is {text}, which withoutHeaders excludes"),
            Mismatch::QueryMissing(name) => write!(to, "query parameter {name} is missing"),
            Mismatch::Query(name, text) => write!(to, "query parameter {name} is not {text}"),
            Mismatch::Port(port) => write!(to, "port is not {port}"),
            Mismatch::SourceNamespace(namespace) => write!(to, "source namespace is not {namespace}"),
            Mismatch::SourceLabel(key, value) => write!(to, "source has no label {key}={value}"),
        }
    }
}
