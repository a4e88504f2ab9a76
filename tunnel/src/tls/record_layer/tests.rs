use super::post_handshake::KEY_UPDATE;
use super::*;
use crate::tls::credentials::testing::{expected, usual, Authority};
use crate::tls::handshake::testing::{talk, End};
use crate::tls::handshake::Handshake;

const SERVER: &str = "spiffe://cluster.local/ns/demo/sa/server";
/// Ticket of 3 bytes, as far as the record layer looks at it.
const TICKET: [u8; 7] = [4, 0, 0, 3, 1, 2, 3];

impl Records {
    /// Appends `plain` in one record, with as much padding as may be (RFC 8446 section 5.4).
    pub fn seal_padded(&mut self, plain: &[u8], out: &mut Out) {
        let mut inner = [plain, &[DATA]].concat();
        inner.resize(PLAIN_MAX, 0);
        self.append(0, &inner, out).unwrap();
    }
}

/// Client and server, behind their handshake.
fn ends() -> (End, End) {
    let root = Authority::new("root");
    let credentials = root.credentials(SERVER, &root, usual);
    let mut near = End::new(Handshake::client(&credentials, &expected(&[SERVER])).unwrap());
    let mut far = End::new(Handshake::server(&credentials).unwrap());
    talk(&mut near, &mut far, usize::MAX);
    assert!(near.records.is_some() && far.records.is_some());
    (near, far)
}

fn records(end: &mut End) -> &mut Records {
    end.records.as_mut().unwrap()
}

/// The bytes of one record.
fn record(end: &mut End, kind: u8, plain: &[u8]) -> Vec<u8> {
    let End { records, out, .. } = end;
    records.as_mut().unwrap().append(kind, plain, out).unwrap();
    end.said()
}

/// What the other one hears of it.
fn send(from: &mut End, to: &mut End, plain: &[u8]) -> Vec<u8> {
    let End { records, out, .. } = from;
    records.as_mut().unwrap().seal(plain, out).unwrap();
    to.hear(&from.said())
}

/// Bytes go both ways.
fn goes_on(one: &mut End, other: &mut End) {
    assert_eq!(send(one, other, b"there"), b"there");
    assert_eq!(send(other, one, b"and back"), b"and back");
    assert!(one.failure.is_none() && other.failure.is_none());
}

#[test]
fn bytes_arrive_as_they_were_sent() {
    let (mut near, mut far) = ends();
    let data: Vec<u8> = (0..=255).cycle().take(3 * PLAIN_MAX + 1).collect();
    for len in [1, 2, PLAIN_MAX - 1, PLAIN_MAX, PLAIN_MAX + 1, data.len()] {
        assert!(send(&mut near, &mut far, &data[..len]) == data[..len], "{len}");
        assert!(send(&mut far, &mut near, &data[..len]) == data[..len], "{len}");
    }
    records(&mut near).seal(&data, &mut Out::new(&crate::sys::budget::Budget::process())).unwrap(); // never sent: what follows does not authenticate
    assert!(send(&mut near, &mut far, b"x").is_empty() && far.failure.is_some());
}

#[test]
fn a_record_may_come_byte_by_byte_or_be_empty_or_padded() {
    let (mut near, mut far) = ends();
    let sealed = record(&mut near, DATA, b"slowly");
    let heard: Vec<u8> = sealed.chunks(1).flat_map(|byte| far.hear(byte)).collect();
    assert_eq!(heard, b"slowly");
    let empty = record(&mut near, DATA, b"");
    assert!(far.hear(&empty).is_empty());
    let padded = record(&mut near, 0, &[b"padded", &[DATA][..], &[0; 100]].concat());
    assert_eq!(far.hear(&padded), b"padded");
    goes_on(&mut near, &mut far);
}

#[test]
fn keys_are_renewed_before_they_have_sealed_too_much() {
    let (mut near, mut far) = ends();
    for _ in 0..3 {
        for to_server in [true, false] {
            let (from, to) = if to_server { (&mut near, &mut far) } else { (&mut far, &mut near) };
            records(from).tx.seq = REKEY;
            records(to).rx.seq = REKEY;
            assert_eq!(send(from, to, b"the last one"), b"the last one");
            assert_eq!((records(from).tx.seq, records(to).rx.seq), (0, 0));
            assert_eq!(send(from, to, b"the first one"), b"the first one");
        }
        goes_on(&mut near, &mut far);
    }
}

#[test]
fn a_peer_may_ask_for_new_keys_both_ways() {
    let (mut near, mut far) = ends();
    for to_server in [true, false] {
        let (from, to) = if to_server { (&mut near, &mut far) } else { (&mut far, &mut near) };
        let asking = record(from, HANDSHAKE, &[24, 0, 0, 1, 1]);
        let keys = &mut records(from).keys;
        let renewed = match keys {
            Keys::Client(keys) => keys.update_tx_secret(),
            Keys::Server(keys) => keys.update_tx_secret(),
        };
        records(from).tx = Half::new(renewed.unwrap()).unwrap();
        to.hear(&asking);
        from.hear(&to.said());
        assert_eq!((records(to).tx.seq, records(from).rx.seq), (0, 0), "the answer is a new key, too");
        goes_on(&mut near, &mut far);
    }
}

#[test]
fn tickets_may_be_divided_among_records_and_share_one() {
    let (mut near, mut far) = ends();
    let long = [&[4, 0, 0x40, 0][..], &[7; 0x4000]].concat();
    let several = [&TICKET[..], &long, &TICKET].concat();
    for size in [1, 2, 3, 4, 5, 6, 7, 8, 13, 5000, PLAIN_MAX] {
        // By single bytes only what is short: the long one would take a while.
        let messages = if size < 13 { [TICKET, TICKET].concat() } else { several.clone() };
        for part in messages.chunks(size) {
            let sealed = record(&mut far, HANDSHAKE, part);
            near.hear(&sealed);
        }
        goes_on(&mut near, &mut far);
    }
}

/// Rekeys the server behind `messages`, the last of which is a KeyUpdate.
fn rekey_with(near: &mut End, far: &mut End, messages: &[&[u8]]) {
    for message in messages {
        let sealed = record(far, HANDSHAKE, message);
        near.hear(&sealed);
    }
    let Keys::Server(keys) = &mut records(far).keys else { panic!("it is a server") };
    let secret = keys.update_tx_secret().unwrap();
    records(far).tx = Half::new(secret).unwrap();
    goes_on(near, far);
}

#[test]
fn a_key_update_may_follow_tickets_in_one_record_or_be_divided() {
    let (mut near, mut far) = ends();
    rekey_with(&mut near, &mut far, &[&[&TICKET[..], &KEY_UPDATE].concat()]);
    rekey_with(&mut near, &mut far, &[&TICKET[..3], &[&TICKET[3..], &KEY_UPDATE[..2]].concat(), &KEY_UPDATE[2..]]);
    rekey_with(&mut near, &mut far, &[&KEY_UPDATE[..4], &KEY_UPDATE[4..]]);
}

type Sent = Vec<(u8, &'static [u8])>;

/// What the server sends, by records, and the alert that answers the last one.
#[test]
fn a_violation_is_answered_with_its_alert() {
    let cases: Vec<(&str, Sent, &str)> = vec![
        ("a message behind a KeyUpdate", vec![(HANDSHAKE, &[24, 0, 0, 1, 0, 4])], "unexpected_message"),
        ("a KeyUpdate of a third kind", vec![(HANDSHAKE, &[24, 0, 0, 1, 2])], "illegal_parameter"),
        ("a KeyUpdate of two bytes", vec![(HANDSHAKE, &[24, 0, 0, 2, 0, 0])], "decode_error"),
        ("a KeyUpdate of none", vec![(HANDSHAKE, &[24, 0, 0, 0])], "decode_error"),
        ("a ticket of nothing", vec![(HANDSHAKE, &[4, 0, 0, 0])], "decode_error"),
        ("a ticket that is too long", vec![(HANDSHAKE, &[4, 2, 1, 10])], "decode_error"),
        ("CertificateRequest", vec![(HANDSHAKE, &[13, 0, 0, 1, 0])], "unexpected_message"),
        ("data in a message", vec![(HANDSHAKE, &TICKET[..2]), (DATA, b"x")], "unexpected_message"),
        ("an empty message", vec![(HANDSHAKE, b"")], "unexpected_message"),
        ("an empty message in one", vec![(HANDSHAKE, &TICKET[..2]), (HANDSHAKE, b"")], "unexpected_message"),
        ("half an alert", vec![(ALERT, &[2])], "decode_error"),
        ("an alert and a half", vec![(ALERT, &[1, 0, 1])], "decode_error"),
        ("an unknown kind", vec![(99, b"x")], "unexpected_message"),
        ("an encrypted change of ciphers", vec![(20, &[1])], "unexpected_message"),
        ("nothing but padding", vec![(0, &[0; 9])], "unexpected_message"),
        ("too much", vec![(DATA, &[1; PLAIN_MAX + 1])], "record_overflow"),
        ("too much padding", vec![(0, &[0; PLAIN_MAX + 1])], "record_overflow"),
    ];
    for (what, sent, alert) in cases {
        let (mut near, mut far) = ends();
        for (kind, plain) in sent {
            assert!(near.failure.is_none(), "{what}");
            let sealed = record(&mut far, kind, plain);
            near.hear(&sealed);
        }
        answered(&mut near, &mut far, what, alert);
    }
}

fn answered(near: &mut End, far: &mut End, what: &str, alert: &str) {
    let ours = near.failure.as_ref().expect(what);
    assert_eq!(ours.refusal, Refusal::TunnelViolation, "{what}");
    assert!(ours.detail.ends_with(&format!("TLS alert {alert} sent")), "{what}: {ours}");
    far.hear(&near.said());
    let theirs = far.failure.as_ref().expect(what);
    assert_eq!(theirs.detail, format!("the peer sent the TLS alert {alert}"), "{what}");
}

/// What is no record of the peer's, or was changed on its way.
#[test]
fn what_cannot_be_opened_is_answered_with_its_alert() {
    let [a, b] = (SEALED_MAX as u16 + 1).to_be_bytes();
    for (bytes, alert) in [
        (&[23, 3, 3, a, b][..], "record_overflow"),
        (&[22, 3, 3, 0, 5, 24, 0, 0, 1, 0], "unexpected_message"),
        (&[20, 3, 3, 0, 1, 1], "unexpected_message"),
        (&[21, 3, 3, 0, 2, 1, 0], "unexpected_message"),
        (b"GET / HTTP/1.1\r\n\r\n", "unexpected_message"),
        (&[23, 3, 3, 0, 0], "bad_record_mac"),
        (&[23, 3, 3, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "bad_record_mac"),
    ] {
        let (mut near, mut far) = ends();
        near.hear(bytes);
        answered(&mut near, &mut far, &format!("{bytes:?}"), alert);
    }
    for place in [0, 5, 9, 15] {
        let (mut near, mut far) = ends();
        let mut sealed = record(&mut far, DATA, b"intact");
        sealed[HEAD + place] ^= 1;
        near.hear(&sealed);
        answered(&mut near, &mut far, "a changed byte", "bad_record_mac");
    }
}

#[test]
fn a_client_sends_no_tickets() {
    let (mut near, mut far) = ends();
    let sealed = record(&mut near, HANDSHAKE, &TICKET);
    far.hear(&sealed);
    answered(&mut far, &mut near, "a ticket", "unexpected_message");
}

#[test]
fn key_updates_are_paid_for_with_records() {
    let (mut near, mut far) = ends();
    for update in 0..3 * KEY_UPDATES_MAX {
        for _ in 0..RECORDS_PER_KEY_UPDATE {
            assert_eq!(send(&mut far, &mut near, b"x"), b"x", "{update}");
        }
        rekey_with(&mut near, &mut far, &[&KEY_UPDATE]);
    }
    let mut updates = 0;
    while near.failure.is_none() {
        updates += 1;
        assert!(updates <= KEY_UPDATES_MAX + 1);
        let sealed = record(&mut far, HANDSHAKE, &KEY_UPDATE);
        near.hear(&sealed);
        let Keys::Server(keys) = &mut records(&mut far).keys else { panic!("it is a server") };
        let secret = keys.update_tx_secret().unwrap();
        records(&mut far).tx = Half::new(secret).unwrap();
    }
    answered(&mut near, &mut far, "many key updates", "unexpected_message");
}

#[test]
fn alerts_of_the_peer_are_told_by_name() {
    for (alert, name, refusal) in [
        (alert::INTERNAL_ERROR, "internal_error", Refusal::TunnelLost),
        (alert::CERTIFICATE_REVOKED, "certificate_revoked", Refusal::CertificateRefused),
        (116, "certificate_required", Refusal::CertificateRefused),
        (77, "number 77", Refusal::TunnelLost),
    ] {
        let (mut near, mut far) = ends();
        let End { records, out, .. } = &mut far;
        records.as_mut().unwrap().fail(alert, out).unwrap();
        near.hear(&far.said());
        let failure = near.failure.unwrap();
        assert_eq!((failure.refusal, failure.detail), (refusal, format!("the peer sent the TLS alert {name}")));
        assert!(near.out.waiting().is_empty(), "an alert is not answered");
    }
}

#[test]
fn a_peer_says_that_it_sends_no_more() {
    let (mut near, mut far) = ends();
    let canceled = record(&mut far, ALERT, &[WARNING, alert::USER_CANCELED]);
    near.hear(&canceled);
    goes_on(&mut near, &mut far);
    let End { records, out, .. } = &mut far;
    records.as_mut().unwrap().close(out).unwrap();
    let closed = [far.said(), record(&mut far, DATA, b"behind the end")].concat();
    assert!(near.hear(&closed).is_empty());
    assert!(near.records.unwrap().closed && near.failure.is_none());
}

#[test]
fn a_record_has_a_size_when_it_is_there_as_a_whole() {
    assert_eq!(size(&[22, 3, 1, 0]), None);
    assert_eq!(size(&[22, 3, 1, 0, 0]), Some(5));
    assert_eq!(size(&[22, 3, 1, 0, 2, 9]), None);
    assert_eq!(size(&[22, 3, 1, 0, 2, 9, 9, 9]), Some(7));
}
