//! Resources and requests in a few words, for tests.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::proto::{self, PathKind, StringKind, Target};
use super::{Client, Labels, PortRoutes, Request, Scope, ServiceRoutes};

/// `=exact`, `^=prefix`, `$=suffix`, `~=regex`, `i=` and `i^=` ignoring case, `?` present.
fn value(text: &str) -> proto::StringMatch {
    let (ignore_case, text) = text.strip_prefix('i').map_or((false, text), |text| (true, text));
    let (operator, value) = text.split_once('=').unwrap_or((text, ""));
    let kind = match operator {
        "" => StringKind::Exact(value.into()),
        "^" => StringKind::Prefix(value.into()),
        "$" => StringKind::Suffix(value.into()),
        "~" => StringKind::Regex(value.into()),
        "?" => StringKind::Present(true),
        operator => panic!("{operator} is no operator"),
    };
    proto::StringMatch { kind: Some(kind), ignore_case }
}

/// "name=value", "name~=value", "name?".
fn named(text: &str) -> proto::NamedMatch {
    let place = text.find(['=', '^', '$', '~', '?']).unwrap();
    // An "i" before the operator says so only behind a comma: "name,i=value".
    let (name, rest) = text.split_at(place);
    match name.strip_suffix(",i") {
        Some(name) => proto::NamedMatch { name: name.into(), value: Some(value(&format!("i{rest}"))) },
        None => proto::NamedMatch { name: name.into(), value: Some(value(rest)) },
    }
}

/// Conditions with blanks between them: `exact:/x prefix:/x segment:/x regex:/x nocase method=GET scheme=http authority=a
/// h:name=value !h:name=value q:name=value port:80 from:namespace label:key=value name:text`.
pub fn matching(text: &str) -> proto::HttpMatch {
    let mut sent = proto::HttpMatch::default();
    let path =
        |kind| Some(proto::PathMatch { kind: Some(kind), ignore_case: text.split(' ').any(|word| word == "nocase") });
    for word in text.split(' ').filter(|word| !word.is_empty() && *word != "nocase") {
        let (kind, rest) = word.split_once(':').unwrap_or((word, ""));
        match kind {
            "exact" => sent.path = path(PathKind::Exact(rest.into())),
            "prefix" => sent.path = path(PathKind::Prefix(rest.into())),
            "segment" => sent.path = path(PathKind::SegmentPrefix(rest.into())),
            "regex" => sent.path = path(PathKind::Regex(rest.into())),
            "h" => sent.headers.push(named(rest)),
            "!h" => sent.without_headers.push(named(rest)),
            "q" => sent.query.push(named(rest)),
            "port" => sent.port = rest.parse().unwrap(),
            "from" => sent.source_namespace = rest.into(),
            "name" => sent.name = rest.into(),
            "label" => {
                let (key, value) = rest.split_once('=').unwrap();
                sent.source_labels.insert(key.into(), value.into());
            }
            _ if word.starts_with("method") => sent.method = Some(value(&word["method".len()..])),
            _ if word.starts_with("scheme") => sent.scheme = Some(value(&word["scheme".len()..])),
            _ if word.starts_with("authority") => sent.authority = Some(value(&word["authority".len()..])),
            _ => panic!("{word} is no condition"),
        }
    }
    sent
}

/// A rule that forwards to destinations[0].
pub fn rule(name: &str, matches: &[&str]) -> proto::HttpRule {
    let matches = matches.iter().copied().map(matching).collect();
    proto::HttpRule { name: name.into(), matches, action: Some(to(&[(0, 1)])), ..Default::default() }
}

/// Forwards to destinations by weight.
pub fn to(shares: &[(u32, u32)]) -> proto::Action {
    let weighted = |&(place, weight): &(u32, u32)| share(Target::Destination(place), weight);
    proto::Action::Forward(proto::Forward { destinations: shares.iter().map(weighted).collect(), ..Default::default() })
}

pub fn share(target: Target, weight: u32) -> proto::Weighted {
    proto::Weighted { to: Some(target), weight, ..Default::default() }
}

pub fn destination(subset: &str) -> proto::Destination {
    proto::Destination {
        namespace: "shop".into(),
        hostname: "reviews.shop.svc.cluster.local".into(),
        port: 9080,
        subset: subset.into(),
        ..Default::default()
    }
}

/// With destinations v1, v2 and v3.
pub fn scope(http: Vec<proto::HttpRule>) -> proto::Scope {
    let destinations = ["v1", "v2", "v3"].map(destination).into();
    proto::Scope { http, destinations, ..Default::default() }
}

pub fn service(scopes: Vec<proto::Scope>) -> proto::ServiceRoutes {
    let port = proto::PortRoutes { port: 9080, protocol: proto::Protocol::Http.into(), scopes, hosts: vec![] };
    proto::ServiceRoutes {
        namespace: "shop".into(),
        hostname: "reviews.shop.svc.cluster.local".into(),
        ports: vec![port],
    }
}

pub fn port(scopes: Vec<proto::Scope>) -> Result<Arc<PortRoutes>, String> {
    Ok(ServiceRoutes::compile(&service(scopes))?.port(9080).unwrap().clone())
}

pub fn compiled(http: Vec<proto::HttpRule>) -> Arc<Scope> {
    port(vec![scope(http)]).unwrap_or_else(|error| panic!("{error}")).scopes[0].clone()
}

/// A request that owns its parts.
pub struct Sample {
    method: Method,
    scheme: String,
    authority: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    pub port: u16,
}

impl Sample {
    /// "GET http://host/path?query name:value name:value".
    pub fn new(text: &str) -> Sample {
        let mut words = text.split(' ');
        let method = words.next().unwrap().parse().unwrap();
        let (scheme, rest) = words.next().unwrap().split_once("://").unwrap();
        let (authority, target) = rest.split_at(rest.find('/').unwrap());
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.into())));
        let mut headers = HeaderMap::new();
        for (name, value) in words.map(|word| word.split_once(':').unwrap()) {
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        Sample {
            method,
            scheme: scheme.into(),
            authority: authority.into(),
            path: path.into(),
            query,
            headers,
            port: 9080,
        }
    }

    pub fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            scheme: &self.scheme,
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            port: self.port,
        }
    }
}

/// The pod in namespace `shop` with labels "key=value".
pub fn labels(text: &str) -> Labels {
    let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
    Labels::new(pairs.map(|(key, value)| (key.into(), value.into())))
}

pub fn client(labels: &Labels) -> Client<'_> {
    Client { namespace: "shop", labels }
}
