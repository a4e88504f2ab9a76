//! Whether a try is followed by another (VirtualService retries, HTTPRoute retry), and when.
use super::answer::Failure;
use super::Response;
use crate::routes::{Retry, RetryOn};
use http::{HeaderMap, Method, StatusCode};
use std::time::Duration;

/// How a try ended, as far as its response has come.
pub enum Tried<'a> {
    Response(&'a Response),
    Failure(&'a Failure),
}

pub fn wants_another(retry: &Retry, tried: &Tried) -> bool {
    match tried {
        Tried::Failure(Failure::Overflow | Failure::NoHealthyHost | Failure::Body(_)) => false,
        Tried::Failure(failure) => retry.conditions.iter().any(|condition| follows_failure(*condition, failure)),
        Tried::Response(response) => {
            let headers = &response.headers;
            retry.statuses.contains(&response.status)
                || retry.headers.iter().any(|name| headers.contains_key(name))
                || retry.conditions.iter().any(|condition| follows_response(*condition, response.status, headers))
        }
    }
}

fn follows_failure(condition: RetryOn, failure: &Failure) -> bool {
    match condition {
        RetryOn::ServerError | RetryOn::GatewayError | RetryOn::Reset => true,
        RetryOn::ConnectFailure | RetryOn::ResetBeforeRequest => matches!(failure, Failure::Connect(_)),
        RetryOn::RefusedStream => matches!(failure, Failure::Reset { refused: true }),
        _ => false,
    }
}

fn follows_response(condition: RetryOn, status: StatusCode, headers: &HeaderMap) -> bool {
    let grpc = |code: &[u8]| headers.get("grpc-status").is_some_and(|status| status.as_bytes() == code);
    match condition {
        RetryOn::ServerError => status.is_server_error(),
        RetryOn::GatewayError => (502..=504).contains(&status.as_u16()),
        RetryOn::EnvoyRatelimited => headers.contains_key("x-envoy-ratelimited"),
        RetryOn::Retriable4xx => status == StatusCode::CONFLICT,
        RetryOn::GrpcCancelled => grpc(b"1"),
        RetryOn::GrpcDeadlineExceeded => grpc(b"4"),
        RetryOn::GrpcResourceExhausted => grpc(b"8"),
        RetryOn::GrpcInternal => grpc(b"13"),
        RetryOn::GrpcUnavailable => grpc(b"14"),
        _ => false,
    }
}

/// Before the `number`th retry: by chance within a range that doubles (Envoy's jittered exponential back-off).
pub fn back_off(retry: &Retry, number: u32, draw: impl Fn(u64) -> u64) -> Duration {
    let factor = (1u64 << number.min(32)) - 1;
    let most = retry.backoff_base.saturating_mul(u32::try_from(factor).unwrap_or(u32::MAX)).min(retry.backoff_max);
    Duration::from_micros(draw((most.as_micros() as u64).max(1)))
}

/// What may be sent twice without asking anybody (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent()
}
