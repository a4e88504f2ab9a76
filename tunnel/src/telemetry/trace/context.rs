//! The context of a trace as it travels: W3C Trace Context (`traceparent`; `tracestate` passes as it is), and B3 in both
//! of its forms.
use crate::base::Rng;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// A span's place in its trace. Neither id is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    pub trace: u128,
    pub span: u64,
    pub sampled: bool,
}

impl Context {
    /// Of what has no span: the other end makes none for it, either.
    pub fn of_nobody(rng: &mut Rng) -> Context {
        let trace = u128::from(rng.draw()) << 64 | u128::from(rng.draw());
        Context { trace, span: rng.draw(), sampled: false }
    }

    /// A `traceparent` (W3C Trace Context section 3.2.2); of a later version that part which this one has.
    pub fn parse(text: &str) -> Option<Context> {
        let mut parts = text.trim().splitn(5, '-');
        let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let known = match version {
            "00" => parts.next().is_none(),
            _ => version != "ff" && hex(version, 2).is_some(),
        };
        let flags = hex(flags, 2).filter(|_| known)?;
        Some(Context { trace: trace_id(trace, 32)?, span: span_id(span)?, sampled: flags & 1 == 1 })
    }
}

/// A `traceparent`.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// Lower case only, as both say; any number of digits up to `digits`.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let fits = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

fn trace_id(text: &str, digits: usize) -> Option<u128> {
    hex(text, digits).filter(|id| *id != 0)
}

fn span_id(text: &str) -> Option<u64> {
    hex(text, 16).map(|id| id as u64).filter(|id| *id != 0)
}

/// How B3 came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Single,
    Multi,
}

/// What a request's header says of its trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// The caller's span.
    pub parent: Option<Context>,
    /// What was decided about the trace before; None: nothing.
    pub sampled: Option<bool>,
    /// The B3 that has to be written as well.
    pub b3: Option<Form>,
}

impl Incoming {
    /// `traceparent` goes before B3; one that is not valid counts as none (W3C Trace Context section 3.2.2.5).
    pub fn read(headers: &HeaderMap) -> Incoming {
        let (b3, sampled, form) = b3(headers);
        let parent = only(headers, &TRACEPARENT).and_then(Context::parse);
        match parent {
            Some(parent) => Incoming { parent: Some(parent), sampled: Some(parent.sampled), b3: form },
            None => Incoming { parent: b3, sampled, b3: form },
        }
    }

    /// Puts our span in the place of the caller's.
    pub fn write(&self, headers: &mut HeaderMap, context: &Context) {
        if self.parent.is_none() {
            headers.remove(TRACESTATE); // of a trace that is not this one
        }
        headers.insert(TRACEPARENT, value(context));
        let (trace, span) = (format_args!("{:032x}", context.trace), format_args!("{:016x}", context.span));
        let sampled = u8::from(context.sampled);
        match self.b3 {
            None => {}
            Some(Form::Single) => {
                let parent = self.parent.map(|parent| format!("-{:016x}", parent.span)).unwrap_or_default();
                headers.insert(B3, value(format_args!("{trace}-{span}-{sampled}{parent}")));
            }
            Some(Form::Multi) => {
                headers.insert(B3_TRACE, value(trace));
                headers.insert(B3_SPAN, value(span));
                headers.remove(B3_PARENT);
                if let Some(parent) = self.parent {
                    headers.insert(B3_PARENT, value(format_args!("{:016x}", parent.span)));
                }
                if !headers.contains_key(B3_FLAGS) {
                    headers.insert(B3_SAMPLED, value(sampled));
                }
            }
        }
    }
}

fn value(text: impl ToString) -> HeaderValue {
    HeaderValue::try_from(text.to_string()).expect("digits and dashes are visible")
}

/// A field's value, where it came once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Its context, what was decided, and its form (openzipkin/b3-propagation). A single field goes before several.
fn b3(headers: &HeaderMap) -> (Option<Context>, Option<bool>, Option<Form>) {
    if let Some(single) = only(headers, &B3) {
        let mut parts = single.split('-');
        let Some(first) = parts.next() else { return (None, None, None) };
        if single.len() == 1 {
            let sampled = decision(first);
            return (None, sampled, sampled.map(|_| Form::Single));
        }
        let ids = b3_trace(first).zip(parts.next().and_then(span_id));
        let sampled = parts.next().and_then(decision);
        return (ids.map(|ids| context(ids, sampled)), sampled, ids.map(|_| Form::Single));
    }
    let debug = only(headers, &B3_FLAGS).is_some_and(|flags| flags == "1");
    let sampled = only(headers, &B3_SAMPLED).and_then(decision);
    let sampled = if debug { Some(true) } else { sampled };
    let ids = only(headers, &B3_TRACE).and_then(b3_trace).zip(only(headers, &B3_SPAN).and_then(span_id));
    let form = (ids.is_some() || sampled.is_some()).then_some(Form::Multi);
    (ids.map(|ids| context(ids, sampled)), sampled, form)
}

/// Of 128 bits, or of 64.
fn b3_trace(text: &str) -> Option<u128> {
    trace_id(text, 32).or_else(|| trace_id(text, 16))
}

fn context((trace, span): (u128, u64), sampled: Option<bool>) -> Context {
    Context { trace, span, sampled: sampled.unwrap_or_default() }
}

/// `d` is debug: sampled, whatever else.
fn decision(text: &str) -> Option<bool> {
    match text {
        "1" | "d" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn context(sampled: bool) -> Context {
        Context {
            trace: u128::from_str_radix(TRACE, 16).unwrap(),
            span: u64::from_str_radix(SPAN, 16).unwrap(),
            sampled,
        }
    }

    #[test]
    fn a_traceparent_is_read_as_the_w3c_has_it() {
        for (text, read) in [
            (format!("00-{TRACE}-{SPAN}-01"), Some(context(true))),
            (format!("00-{TRACE}-{SPAN}-00"), Some(context(false))),
            (format!("00-{TRACE}-{SPAN}-03"), Some(context(true))),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes-later"), Some(context(true))),
            (format!("00-{TRACE}-{SPAN}-01-what-comes-later"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00-{TRACE}-0000000000000000-01"), None),
            (format!("00-00000000000000000000000000000000-{SPAN}-01"), None),
            (format!("00-{TRACE}-{SPAN}"), None),
            (format!("00-+{}-{SPAN}-01", &TRACE[1..]), None),
            (String::new(), None),
        ] {
            assert_eq!(Context::parse(&text), read, "{text}");
        }
        assert_eq!(context(true).to_string(), format!("00-{TRACE}-{SPAN}-01"));
    }

    #[test]
    fn b3_is_read_in_both_forms() {
        let short = Context { trace: 0x8448_eb21_1c80_319c, ..context(true) };
        let single = format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90");
        let (b3, sampled) = (Some(Form::Single), Some(true));
        assert_eq!(Incoming::read(&headers(&[("b3", &single)])), Incoming { parent: Some(context(true)), sampled, b3 });
        assert_eq!(
            Incoming::read(&headers(&[("b3", &format!("{}-{SPAN}-d", &TRACE[16..]))])),
            Incoming { parent: Some(short), sampled, b3 }
        );
        assert_eq!(
            Incoming::read(&headers(&[("b3", &format!("{TRACE}-{SPAN}"))])),
            Incoming { parent: Some(context(false)), sampled: None, b3 },
            "whoever receives it decides"
        );
        assert_eq!(Incoming::read(&headers(&[("b3", "0")])), Incoming { parent: None, sampled: Some(false), b3 });
        let multi = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-flags", "1")];
        let b3 = Some(Form::Multi);
        assert_eq!(Incoming::read(&headers(&multi)), Incoming { parent: Some(context(true)), sampled, b3 });
        assert_eq!(Incoming::read(&headers(&[("b3", "zz-1-2")])), Incoming::default());
        assert_eq!(Incoming::read(&HeaderMap::new()), Incoming::default());
    }

    #[test]
    fn our_span_takes_the_callers_place() {
        let ours = Context { span: 1, ..context(true) };
        let write = |fields: &[(&'static str, &str)]| {
            let mut headers = headers(fields);
            Incoming::read(&headers).write(&mut headers, &ours);
            let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
            ["traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled"]
                .map(text)
        };
        let some = |text: &str| Some(text.to_owned());
        let (parent, ours) = (format!("00-{TRACE}-{SPAN}-01"), Some(ours.to_string()));
        let one = "0000000000000001";
        assert_eq!(
            write(&[("traceparent", &parent), ("tracestate", "a=1")]),
            [ours.clone(), some("a=1"), None, None, None, None, None]
        );
        assert_eq!(
            write(&[("traceparent", "nonsense"), ("tracestate", "a=1")]),
            [ours.clone(), None, None, None, None, None, None]
        );
        assert_eq!(
            write(&[("b3", &format!("{TRACE}-{SPAN}-1"))]),
            [ours.clone(), None, some(&format!("{TRACE}-{one}-1-{SPAN}")), None, None, None, None]
        );
        assert_eq!(
            write(&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-parentspanid", "05e3ac9a4f6e3b90")]),
            [ours, None, None, some(TRACE), some(one), some(SPAN), some("1")]
        );
    }
}
