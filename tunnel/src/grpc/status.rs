//! How a call ends.
use h2::Reason;
use http::header::HeaderMap;
use http::StatusCode;
use std::time::Duration;

/// An end that is no success: a code of gRPC's, and a text for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: u8,
    pub text: String,
}

const CANCELLED: u8 = 1;
const UNKNOWN: u8 = 2;
const INVALID_ARGUMENT: u8 = 3;
const DEADLINE_EXCEEDED: u8 = 4;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const UNAUTHENTICATED: u8 = 16;

impl Status {
    fn new(code: u8, text: impl Into<String>) -> Status {
        Status { code, text: text.into() }
    }

    pub fn cancelled() -> Status {
        Status::new(CANCELLED, "cancelled here")
    }

    pub fn unavailable(text: impl Into<String>) -> Status {
        Status::new(UNAVAILABLE, text)
    }

    pub fn internal(text: impl Into<String>) -> Status {
        Status::new(INTERNAL, text)
    }

    pub fn too_much(text: impl Into<String>) -> Status {
        Status::new(RESOURCE_EXHAUSTED, text)
    }

    pub fn late(deadline: Duration) -> Status {
        Status::new(DEADLINE_EXCEEDED, format!("no answer within {deadline:?}"))
    }

    /// Of a field or method whose characters HTTP does not have.
    pub fn cannot_send(name: &str) -> Status {
        Status::new(INVALID_ARGUMENT, format!("{name:?} cannot be sent"))
    }

    /// Whether another connection may do better.
    pub fn is_of_connection(&self) -> bool {
        [UNAVAILABLE, DEADLINE_EXCEEDED].contains(&self.code)
    }

    /// What the server says at the end of a call. None: nothing.
    pub fn told(fields: &HeaderMap) -> Option<Result<(), Status>> {
        let code = fields.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok());
        let text = fields.get("grpc-message").map(|text| percent_decoded(text.as_bytes())).unwrap_or_default();
        Some(match code.filter(|code| *code <= UNAUTHENTICATED).unwrap_or(UNKNOWN) {
            0 => Ok(()),
            code => Err(Status { code, text }),
        })
    }

    /// Of an answer that is none of gRPC's (its http-grpc-status-mapping).
    pub fn of_http(status: StatusCode, content_type: &str) -> Status {
        let code = match status.as_u16() {
            400 => INTERNAL,
            401 => UNAUTHENTICATED,
            403 => PERMISSION_DENIED,
            404 => UNIMPLEMENTED,
            429 | 502..=504 => UNAVAILABLE,
            _ => UNKNOWN,
        };
        Status::new(code, format!("the server answers HTTP {} of type {content_type:?}, not gRPC", status.as_u16()))
    }
}

impl From<h2::Error> for Status {
    fn from(error: h2::Error) -> Status {
        let code = match error.reason() {
            _ if error.is_io() || error.is_go_away() => UNAVAILABLE,
            Some(Reason::REFUSED_STREAM) => UNAVAILABLE,
            Some(Reason::CANCEL) => CANCELLED,
            Some(Reason::ENHANCE_YOUR_CALM) => RESOURCE_EXHAUSTED,
            Some(Reason::INADEQUATE_SECURITY) => PERMISSION_DENIED,
            _ => INTERNAL,
        };
        Status::new(code, error.to_string())
    }
}

/// The text of `grpc-message`: characters that HTTP does not have are in bytes, `%` with two hexadecimal digits.
fn percent_decoded(text: &[u8]) -> String {
    let (mut decoded, mut rest) = (Vec::with_capacity(text.len()), text);
    while let [first, others @ ..] = rest {
        let byte = match others {
            [a, b, ..] if *first == b'%' => (*a as char).to_digit(16).zip((*b as char).to_digit(16)),
            _ => None,
        };
        decoded.push(byte.map_or(*first, |(high, low)| (high * 16 + low) as u8));
        rest = &rest[if byte.is_some() { 3 } else { 1 }..];
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn told(code: &'static str, text: &'static str) -> Option<Result<(), Status>> {
        let fields = [("grpc-status", code), ("grpc-message", text)];
        Status::told(
            &fields.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).into_iter().collect(),
        )
    }

    #[test]
    fn a_status_is_what_the_server_told() {
        assert_eq!(Status::told(&HeaderMap::new()), None);
        assert_eq!(told("0", "ignored"), Some(Ok(())));
        for (code, text, expected) in [
            ("7", "no %E2%82%AC for 100%", (PERMISSION_DENIED, "no \u{20ac} for 100%")),
            ("14", "%zz%4", (UNAVAILABLE, "%zz%4")),
            ("17", "of a later gRPC", (UNKNOWN, "of a later gRPC")),
            ("-1", "", (UNKNOWN, "")),
            ("none", "", (UNKNOWN, "")),
        ] {
            let (code_, text_) = expected;
            assert_eq!(told(code, text), Some(Err(Status::new(code_, text_))), "{code} {text}");
        }
    }
}
