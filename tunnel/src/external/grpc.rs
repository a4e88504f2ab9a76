//! Unary calls of gRPC (its PROTOCOL-HTTP2).

use http::header::{HeaderMap, HeaderValue, CONTENT_TYPE, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Version};
use prost::Message;

use super::Reply;
use crate::grpc::{framed, Status, PREFIX};
use crate::http::{Body, Request};

/// A call of a method (`/package.Service/Method`).
pub fn request(authority: Authority, method: &'static str, message: &impl Message) -> Request {
    let body = framed(message.encoded_len(), |buffer| message.encode_raw(buffer));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    Request {
        method: Method::POST,
        scheme: Scheme::HTTP,
        authority,
        path: PathAndQuery::from_static(method),
        version: Version::HTTP_2,
        headers,
        body: Body::from(body),
        upgrade: None,
        interim: None,
    }
}

/// The message of an answer. Errors: the call has failed, or is not what it should be.
pub fn message<T: Message + Default>(reply: &Reply) -> Result<T, String> {
    match Status::told(&reply.trailers).or_else(|| Status::told(&reply.headers)) {
        Some(Ok(())) => {}
        Some(Err(Status { code, text })) => {
            return Err(format!("it answers with gRPC's status {code} {text}").trim_end().to_owned());
        }
        None => return Err(format!("it answers {} without a status of gRPC", reply.status)),
    }
    let (prefix, message) = reply.body.split_at_checked(PREFIX).ok_or("its answer is empty")?;
    if prefix != [&[0][..], &(message.len() as u32).to_be_bytes()].concat() {
        return Err("its answer is compressed, or no single message".to_owned());
    }
    T::decode(message).map_err(|error| format!("its answer cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::external::proto::Status;
    use bytes::Bytes;
    use http::StatusCode;

    fn reply(body: &[u8], status: &'static str, in_trailers: bool) -> Reply {
        let fields = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))]);
        let (headers, trailers) = if in_trailers { (HeaderMap::new(), fields) } else { (fields, HeaderMap::new()) };
        Reply { status: StatusCode::OK, headers, body: Bytes::copy_from_slice(body), trailers }
    }

    #[test]
    fn only_a_whole_message_of_a_call_that_succeeded_is_an_answer() {
        let status = Status { code: 7 };
        let Body::Full(sent) = request("a:1".parse().unwrap(), "/a.B/C", &status).body else { panic!() };
        assert_eq!(message::<Status>(&reply(&sent, "0", true)), Ok(status));
        for (body, code, in_trailers, reason) in [
            (&sent[..], "14", false, "gRPC's status 14"),
            (b"", "0", false, "empty"),
            (&sent[..6], "0", true, "no single message"),
            (&[&sent[..], &sent].concat(), "0", true, "no single message"),
            (&[&[1], &sent[1..]].concat(), "0", true, "compressed"),
        ] {
            let error = message::<Status>(&reply(body, code, in_trailers)).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let bare = Reply { trailers: HeaderMap::new(), ..reply(&sent, "0", true) };
        assert!(message::<Status>(&bare).unwrap_err().contains("without a status"));
    }
}
