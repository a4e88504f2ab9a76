//! What a peer may put into records.
use super::{ALERT, DATA, HANDSHAKE};
use crate::tls::credentials::testing::{expected, usual, Authority};
use crate::tls::credentials::Credentials;
use crate::tls::handshake::testing::{talk, End};
use crate::tls::handshake::Handshake;

const SERVER: &str = "spiffe://cluster.local/ns/demo/sa/server";

thread_local! {
    static CREDENTIALS: Credentials = {
        let root = Authority::new("root");
        root.credentials(SERVER, &root, usual)
    };
}

/// What is sent: what it is, its length, and its bytes, for each piece. What is opened is what was sent as data.
pub fn records(mut input: &[u8]) {
    let (mut near, mut far) = CREDENTIALS.with(ends);
    let (mut sent, mut heard) = (Vec::new(), Vec::new());
    while let Some(([what, len], rest)) = input.split_first_chunk() {
        let (bytes, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        input = rest;
        match what % 8 {
            0..=2 => send(&mut near, DATA, bytes),
            3..=4 => send(&mut near, HANDSHAKE, bytes),
            5 => send(&mut near, ALERT, bytes),
            6 => rekey(&mut near),
            _ => {
                far.hear(bytes); // in no record: nothing can be said of what follows
                far.hear(input);
                return;
            }
        }
        if what % 8 <= 2 {
            sent.extend_from_slice(bytes);
        }
        heard.extend(far.hear(&near.said()));
        near.hear(&far.said());
        if far.failure.is_some() || far.records.as_ref().is_none_or(|records| records.closed) {
            return;
        }
    }
    assert_eq!(heard, sent);
}

fn ends(credentials: &Credentials) -> (End, End) {
    let mut near = End::new(Handshake::client(credentials, &expected(&[SERVER])).expect("a client"));
    let mut far = End::new(Handshake::server(credentials).expect("a server"));
    talk(&mut near, &mut far, usize::MAX);
    (near, far)
}

fn send(end: &mut End, kind: u8, bytes: &[u8]) {
    end.records.as_mut().expect("a tunnel").append(kind, bytes, &mut end.out).expect("a key");
}

fn rekey(end: &mut End) {
    end.records.as_mut().expect("a tunnel").rekey(&mut end.out).expect("a key");
}
