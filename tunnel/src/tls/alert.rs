//! TLS alerts (RFC 8446 section 6), by the names that it gives them.
use crate::base::{Failure, Refusal};

pub const CLOSE_NOTIFY: u8 = 0;
pub const UNEXPECTED_MESSAGE: u8 = 10;
pub const BAD_RECORD_MAC: u8 = 20;
pub const RECORD_OVERFLOW: u8 = 22;
pub const CERTIFICATE_REVOKED: u8 = 44;
pub const ILLEGAL_PARAMETER: u8 = 47;
pub const DECODE_ERROR: u8 = 50;
pub const INTERNAL_ERROR: u8 = 80;
pub const USER_CANCELED: u8 = 90;

/// Its name, for people.
pub fn name(alert: u8) -> String {
    let name = match alert {
        CLOSE_NOTIFY => "close_notify",
        UNEXPECTED_MESSAGE => "unexpected_message",
        BAD_RECORD_MAC => "bad_record_mac",
        RECORD_OVERFLOW => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        CERTIFICATE_REVOKED => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        ILLEGAL_PARAMETER => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        DECODE_ERROR => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        INTERNAL_ERROR => "internal_error",
        86 => "inappropriate_fallback",
        USER_CANCELED => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        number => return format!("number {number}"),
    };
    name.to_owned()
}

/// What a fatal alert of the peer means: that it does not like our certificate, or `otherwise`. decrypt_error is what a
/// certificate gets whose root has a namesake there, with another key.
pub fn received(alert: u8, otherwise: Refusal) -> Failure {
    let refusal = match alert {
        42..=46 | 48 | 49 | 51 | 116 => Refusal::CertificateRefused,
        _ => otherwise,
    };
    Failure { refusal, detail: format!("the peer sent the TLS alert {}", name(alert)) }
}
