//! Changes of headers, and the values that they take from the request.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::matching::{joined, Field, Request};
use super::proto;
use super::within::{each, Within};

/// Removed first, then overwritten, then added to, as Envoy does; values are taken from the headers before the changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, Format)>,
    add: Vec<(HeaderName, Format)>,
}

/// A value with formatters in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    /// The first that is there, cut to so many bytes.
    RequestHeader {
        name: Field,
        otherwise: Option<Field>,
        most: Option<usize>,
    },
    ResponseHeader {
        name: HeaderName,
        otherwise: Option<HeaderName>,
        most: Option<usize>,
    },
    Variable(Variable),
}

/// What a formatter takes from elsewhere than headers. A new one: here, and in [`Variable::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    DownstreamRemoteAddress,
    DownstreamRemoteAddressWithoutPort,
    DownstreamLocalAddress,
    Protocol,
    ResponseCode,
    ResponseFlags,
    RouteName,
    UpstreamHost,
    StartTime,
}

/// Where formatters' values come from. What is unknown is None, and takes no place.
pub trait Values {
    fn request(&self) -> Request<'_>;
    /// Only for changes of a response.
    fn response(&self) -> Option<&HeaderMap>;
    fn variable(&self, variable: Variable) -> Option<String>;
}

impl Variable {
    const NAMES: [(&'static str, Variable); 9] = [
        ("DOWNSTREAM_REMOTE_ADDRESS", Variable::DownstreamRemoteAddress),
        ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Variable::DownstreamRemoteAddressWithoutPort),
        ("DOWNSTREAM_LOCAL_ADDRESS", Variable::DownstreamLocalAddress),
        ("PROTOCOL", Variable::Protocol),
        ("RESPONSE_CODE", Variable::ResponseCode),
        ("RESPONSE_FLAGS", Variable::ResponseFlags),
        ("ROUTE_NAME", Variable::RouteName),
        ("UPSTREAM_HOST", Variable::UpstreamHost),
        ("START_TIME", Variable::StartTime),
    ];
}

impl HeaderChanges {
    pub fn decode(sent: &proto::HeaderChanges) -> Result<HeaderChanges, String> {
        let mut changes =
            HeaderChanges { remove: each("remove", &sent.remove, |name| header(name))?, ..Default::default() };
        for change in &sent.changes {
            let format = Format::parse(&change.value).within(&change.name)?;
            let list = if change.append { &mut changes.add } else { &mut changes.set };
            list.push((header(&change.name)?, format));
        }
        Ok(changes)
    }

    /// Both as one: what the later sets wins.
    pub fn then(&self, later: &HeaderChanges) -> HeaderChanges {
        HeaderChanges {
            remove: [&*self.remove, &later.remove].concat(),
            set: [&*self.set, &later.set].concat(),
            add: [&*self.add, &later.add].concat(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// An empty value changes nothing, as in Envoy.
    pub fn apply(&self, headers: &mut HeaderMap, values: &dyn Values) {
        for name in &self.remove {
            headers.remove(name);
        }
        let valued = |(name, format): &(HeaderName, Format)| Some((name.clone(), format.value(values)?));
        let set: Vec<_> = self.set.iter().filter_map(valued).collect();
        let add: Vec<_> = self.add.iter().filter_map(valued).collect();
        set.into_iter().for_each(|(name, value)| drop(headers.insert(name, value)));
        for (name, value) in add {
            headers.append(name, value);
        }
    }
}

/// Whoever sends pseudo-headers or Host here means to rewrite the authority, which has a place of its own.
fn header(name: &str) -> Result<HeaderName, String> {
    let header = HeaderName::try_from(name).map_err(|_| format!("'{name}' is no name of a header"))?;
    match header == http::header::HOST {
        true => Err("Host is changed by 'authority' only".to_owned()),
        false => Ok(header),
    }
}

impl Format {
    /// Text with %NAME%, %NAME(argument)% and %NAME(argument):length%; %% is a percent sign.
    fn parse(text: &str) -> Result<Format, String> {
        HeaderValue::from_str(text).map_err(|_| format!("'{}' is no value of a header", text.escape_debug()))?;
        let (mut pieces, mut plain, mut rest) = (vec![], String::new(), text);
        while let Some((before, after)) = rest.split_once('%') {
            plain.push_str(before);
            let (formatter, after) = after.split_once('%').ok_or("a single % (%% is a percent sign)")?;
            match formatter {
                "" => plain.push('%'),
                formatter => {
                    pieces.extend((!plain.is_empty()).then(|| Piece::Text(std::mem::take(&mut plain).into())));
                    pieces.push(Piece::parse(formatter).within(format_args!("%{formatter}%"))?);
                }
            }
            rest = after;
        }
        plain.push_str(rest);
        pieces.extend((!plain.is_empty()).then(|| Piece::Text(plain.into())));
        Ok(Format(pieces))
    }

    fn value(&self, values: &dyn Values) -> Option<HeaderValue> {
        let value = match &*self.0 {
            [Piece::Text(text)] => HeaderValue::from_str(text),
            pieces => {
                HeaderValue::from_maybe_shared(pieces.iter().flat_map(|piece| piece.value(values)).collect::<Vec<u8>>())
            }
        };
        value.ok().filter(|value| !value.is_empty())
    }
}

impl Piece {
    fn parse(formatter: &str) -> Result<Piece, String> {
        let (formatter, most) = match formatter.rsplit_once("):") {
            Some((formatter, most)) => (formatter, Some(most.parse().map_err(|_| format!("'{most}' is no length"))?)),
            None => (formatter.strip_suffix(')').unwrap_or(formatter), None),
        };
        match formatter.split_once('(') {
            Some(("REQ", names)) => {
                let (name, otherwise) = alternatives(names, Field::decode)?;
                Ok(Piece::RequestHeader { name, otherwise, most })
            }
            Some(("RESP", names)) => {
                let (name, otherwise) = alternatives(names, header)?;
                Ok(Piece::ResponseHeader { name, otherwise, most })
            }
            _ => {
                let known = Variable::NAMES.iter().find(|(name, _)| *name == formatter);
                known
                    .map(|(_, variable)| Piece::Variable(*variable))
                    .ok_or_else(|| "this formatter is not supported".to_owned())
            }
        }
    }

    fn value(&self, values: &dyn Values) -> Vec<u8> {
        match self {
            Piece::Text(text) => text.as_bytes().into(),
            Piece::RequestHeader { name, otherwise, most } => {
                let request = values.request();
                let value = name.of(&request).or_else(|| otherwise.as_ref()?.of(&request));
                cut(value.unwrap_or_default().into(), *most)
            }
            Piece::ResponseHeader { name, otherwise, most } => {
                let value = |name| joined(values.response()?, name);
                cut(value(name).or_else(|| value(otherwise.as_ref()?)).unwrap_or_default().into(), *most)
            }
            Piece::Variable(variable) => values.variable(*variable).unwrap_or_default().into(),
        }
    }
}

/// "name" or "name?other".
fn alternatives<T>(names: &str, decode: fn(&str) -> Result<T, String>) -> Result<(T, Option<T>), String> {
    match names.split_once('?') {
        Some((name, otherwise)) => {
            Ok((decode(&name.to_ascii_lowercase())?, Some(decode(&otherwise.to_ascii_lowercase())?)))
        }
        None => Ok((decode(&names.to_ascii_lowercase())?, None)),
    }
}

fn cut(mut value: Vec<u8>, most: Option<usize>) -> Vec<u8> {
    value.truncate(most.unwrap_or(usize::MAX));
    value
}
