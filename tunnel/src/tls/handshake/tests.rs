use super::testing::{talk, End};
use super::*;
use crate::tls::credentials::testing::{
    expected, expired, for_clients_only, for_servers_only, identity, not_yet_valid, usual, Authority,
};
use rustls::client::ResolvesClientCert;
use rustls::{sign::CertifiedKey, SignatureScheme};

const CLIENT: &str = "spiffe://cluster.local/ns/demo/sa/client";
const SERVER: &str = "spiffe://cluster.local/ns/demo/sa/server";
const OTHER: &str = "spiffe://cluster.local/ns/demo/sa/other";
const STRANGER: &str = "spiffe://example.com/ns/demo/sa/server";
const WHOLE: usize = usize::MAX;

fn ends(client: &Credentials, server: &Credentials, names: &[&str]) -> (End, End) {
    let client = Handshake::client(client, &expected(names)).unwrap();
    (End::new(client), End::new(Handshake::server(server).unwrap()))
}

/// Two ends that trust each other; the server has heard the client's hello, and has not been heard.
fn greeted() -> (End, End) {
    let root = Authority::new("root");
    let client = root.credentials(CLIENT, &root, usual);
    let (mut near, mut far) = ends(&client, &root.credentials(SERVER, &root, usual), &[SERVER]);
    near.hear(&[]);
    far.hear(&near.said());
    (near, far)
}

#[test]
fn two_ends_know_each_other_however_their_bytes_arrive() {
    let root = Authority::new("root");
    let client = root.credentials(CLIENT, &root, usual);
    let server = root.credentials(SERVER, &root, usual);
    for chunk in [WHOLE, 1000, 7, 1] {
        let (mut near, mut far) = ends(&client, &server, &[OTHER, SERVER]);
        talk(&mut near, &mut far, chunk);
        assert_eq!((near.peer, far.peer), (Some(identity(SERVER)), Some(identity(CLIENT))), "{chunk}");
        assert!(near.failure.is_none() && far.failure.is_none());
    }
}

/// The client is the first to know that all is well; what it says then arrives with its last message.
#[test]
fn what_follows_the_handshake_in_one_piece_is_for_the_record_layer() {
    let (mut near, mut far) = greeted();
    near.hear(&far.said());
    near.records.as_mut().unwrap().seal(b"early", &mut near.out).unwrap();
    assert_eq!(far.hear(&near.said()), b"early");
}

/// Though each knows X25519 alone, too: what is recorded today is to be of no use later.
#[test]
fn two_ends_exchange_keys_by_the_hybrid_group() {
    let (_, mut far) = greeted();
    // Of the server's hello: key_share (51) with 1,124 bytes, of X25519MLKEM768 (RFC 8446 section 4.2.8).
    let share = [0, 51, 0x04, 0x64, 0x11, 0xec];
    assert!(far.said().windows(share.len()).any(|bytes| bytes == share));
}

#[test]
fn a_server_of_another_trust_domain_is_served_when_it_is_the_one_expected() {
    let root = Authority::new("root");
    let server = root.credentials(STRANGER, &root, usual);
    // Its own trust domain is that of its clients.
    let client = root.credentials("spiffe://example.com/ns/demo/sa/client", &root, usual);
    let (mut near, mut far) = ends(&client, &server, &[SERVER, STRANGER]);
    talk(&mut near, &mut far, WHOLE);
    assert_eq!(near.peer, Some(identity(STRANGER)));
    assert!(far.peer.is_some());
}

/// Of several names the peer is the one expected, not the first one.
#[test]
fn a_peer_with_two_names_is_the_one_expected() {
    let root = Authority::new("root");
    let both = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names.insert(0, rcgen::SanType::URI(STRANGER.try_into().unwrap()));
    };
    let client = root.credentials(CLIENT, &root, both);
    let (mut near, mut far) = ends(&client, &root.credentials(SERVER, &root, both), &[SERVER]);
    talk(&mut near, &mut far, WHOLE);
    assert_eq!((near.peer, far.peer), (Some(identity(SERVER)), Some(identity(CLIENT))));
}

/// Who refuses whom, and the alert that the other one is sent. Bytes arrive in one piece: behind a certificate that is
/// refused there is more.
#[test]
fn a_server_is_refused_with_a_reason_that_it_is_told() {
    let [root, stranger, namesake] = ["root", "stranger", "root"].map(Authority::new);
    let client = root.credentials(CLIENT, &root, usual);
    for (server, reason, alert) in [
        (root.credentials(OTHER, &root, usual), Refusal::PeerIdentity, "certificate_unknown"),
        (root.credentials(STRANGER, &root, usual), Refusal::PeerIdentity, "certificate_unknown"),
        (root.credentials(SERVER, &root, expired), Refusal::CertificateExpired, "certificate_expired"),
        (root.credentials(SERVER, &root, not_yet_valid), Refusal::CertificateNotYetValid, "certificate_expired"),
        (stranger.credentials(SERVER, &root, usual), Refusal::UntrustedCertificate, "unknown_ca"),
        (namesake.credentials(SERVER, &root, usual), Refusal::UntrustedCertificate, "decrypt_error"),
        (root.credentials(SERVER, &root, for_clients_only), Refusal::CertificatePurpose, "unsupported_certificate"),
    ] {
        for chunk in [WHOLE, 100, 1] {
            let (mut near, mut far) = ends(&client, &server, &[SERVER]);
            talk(&mut near, &mut far, chunk);
            let (ours, theirs) = (near.failure.unwrap(), far.failure.unwrap());
            assert_eq!(ours.refusal, reason, "{ours}");
            assert_eq!(theirs.refusal, Refusal::CertificateRefused, "{theirs}");
            assert_eq!(theirs.detail, format!("the peer sent the TLS alert {alert}"), "{ours}");
        }
    }
}

#[test]
fn a_client_is_refused_with_a_reason_that_it_is_told() {
    let [root, stranger, namesake] = ["root", "stranger", "root"].map(Authority::new);
    let server = root.credentials(SERVER, &root, usual);
    for (client, reason, alert) in [
        (root.credentials(STRANGER, &root, usual), Refusal::PeerTrustDomain, "certificate_unknown"),
        (root.credentials(CLIENT, &root, expired), Refusal::CertificateExpired, "certificate_expired"),
        (root.credentials(CLIENT, &root, not_yet_valid), Refusal::CertificateNotYetValid, "certificate_expired"),
        (stranger.credentials(CLIENT, &root, usual), Refusal::UntrustedCertificate, "unknown_ca"),
        (namesake.credentials(CLIENT, &root, usual), Refusal::UntrustedCertificate, "decrypt_error"),
        (root.credentials(CLIENT, &root, for_servers_only), Refusal::CertificatePurpose, "unsupported_certificate"),
    ] {
        for chunk in [WHOLE, 100, 1] {
            let (mut near, mut far) = ends(&client, &server, &[SERVER]);
            talk(&mut near, &mut far, chunk);
            let (ours, theirs) = (far.failure.unwrap(), near.failure.unwrap());
            assert_eq!(ours.refusal, reason, "{ours}");
            assert_eq!(theirs.refusal, Refusal::CertificateRefused, "{theirs}");
            assert_eq!(theirs.detail, format!("the peer sent the TLS alert {alert}"), "{ours}");
        }
    }
}

/// Has no certificate.
#[derive(Debug)]
struct Nobody;

impl ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let root = Authority::new("root");
    let credentials = root.credentials(CLIENT, &root, usual);
    let names = expected(&[SERVER]);
    let mut config = (*credentials.client(&names).unwrap()).clone();
    config.client_auth_cert_resolver = Arc::new(Nobody);
    let connection = UnbufferedClientConnection::new(Arc::new(config), "a.name".try_into().unwrap()).unwrap();
    let mut near = End::new(Handshake::new(Connection::Client(connection), Expected::OneOf(names), &credentials));
    let mut far = End::new(Handshake::server(&root.credentials(SERVER, &root, usual)).unwrap());
    talk(&mut near, &mut far, WHOLE);
    assert_eq!(far.failure.unwrap().refusal, Refusal::NoCertificate);
    assert_eq!(near.failure.unwrap().detail, "the peer sent the TLS alert certificate_required");
}

#[test]
fn a_peer_that_is_no_tls_or_leaves_ends_it() {
    let root = Authority::new("root");
    let server = root.credentials(SERVER, &root, usual);
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[21, 3, 3, 0, 2, 2, 80], &[22, 3, 1, 0xff, 0xff, 1], &[23, 3, 3, 0, 1, 0]]
    {
        let mut far = End::new(Handshake::server(&server).unwrap());
        far.hear(bytes);
        assert_eq!(far.failure.map(|failure| failure.refusal), Some(Refusal::TlsFailure), "{bytes:?}");
    }
}
