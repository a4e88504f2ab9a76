//! Where a message's body ends (RFC 9112 section 6.3), with no second opinion possible.
use super::head::Refused;
use http::header::{HeaderMap, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// In bytes; 0: no body.
    Length(u64),
    Chunked,
    /// Responses only.
    UntilClose,
}

/// What the fields say, if they say one thing.
fn declared(headers: &HeaderMap, version: Version) -> Result<Option<Framing>, Refused> {
    let length = length(headers)?;
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(length.map(Framing::Length)) };
    if length.is_some() {
        return Err(Refused::bad("Transfer-Encoding and Content-Length in one message"));
    }
    if version < Version::HTTP_11 {
        return Err(Refused::bad("Transfer-Encoding in HTTP/1.0"));
    }
    if codings.next().is_some() {
        return Err(Refused::bad("repeated Transfer-Encoding"));
    }
    if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Refused::unimplemented("a transfer coding other than chunked"));
    }
    Ok(Some(Framing::Chunked))
}

/// Digits and nothing else, once: `+5`, `5, 5` and `0x5` have been read in more than one way.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Refused> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err(Refused::bad("repeated Content-Length"));
    }
    let digits = length.as_bytes();
    let number = digits.iter().all(u8::is_ascii_digit).then(|| length.to_str().ok()?.parse::<u64>().ok()).flatten();
    let number = number.filter(|number| *number <= i64::MAX as u64);
    number.map(Some).ok_or(Refused::bad("Content-Length is not a number"))
}

pub fn of_request(headers: &HeaderMap, version: Version) -> Result<Framing, Refused> {
    Ok(declared(headers, version)?.unwrap_or(Framing::Length(0)))
}

/// `method` is the request's.
pub fn of_response(
    headers: &HeaderMap,
    version: Version,
    status: StatusCode,
    method: &Method,
) -> Result<Framing, Refused> {
    let declared = declared(headers, version)?;
    if !has_body(status, method) {
        return Ok(Framing::Length(0));
    }
    Ok(declared.unwrap_or(Framing::UntilClose))
}

/// Whether a response may have one, whatever its fields say.
pub fn has_body(status: StatusCode, method: &Method) -> bool {
    let none = status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    !none && method != Method::HEAD
}
