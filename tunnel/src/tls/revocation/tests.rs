use super::*;
use crate::base::Refusal;
use crate::tls::credentials::testing::{expected, identity, usual, Authority};
use crate::tls::credentials::Credentials;
use crate::tls::handshake::testing::{talk, End};
use crate::tls::handshake::Handshake;

const CLIENT: &str = "spiffe://cluster.local/ns/demo/sa/client";
const SERVER: &str = "spiffe://cluster.local/ns/demo/sa/server";

fn pem(lists: &[rcgen::CertificateRevocationList]) -> String {
    lists.iter().map(|list| list.pem().unwrap()).collect()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Whether a chain of a leaf, and what vouches for it, is refused by the lists of `pem`.
fn revoked(pem: &str, chain: &[&str], root: &Authority) -> bool {
    let chain: Vec<_> = chain.iter().map(|each| der(each)).collect();
    Lists::parse(pem.as_bytes()).unwrap().revoke(chain.iter(), &[der(&root.root())])
}

#[test]
fn a_leaf_is_revoked_by_its_number_and_no_other() {
    let root = Authority::new("root");
    let (_, seven) = root.leaf(CLIENT, 7, usual);
    let (_, eight) = root.leaf(CLIENT, 8, usual);
    let list = pem(&[root.crl(&[3, 7], 4000)]);
    assert!(revoked(&list, &[&seven], &root) && !revoked(&list, &[&eight], &root));
    assert!(!revoked(&pem(&[root.crl(&[], 4000)]), &[&seven], &root));
}

#[test]
fn the_whole_chain_counts_and_of_whom_no_list_speaks_is_good() {
    let root = Authority::new("root");
    let (middle, certificate) = root.intermediate("middle", 5);
    let (_, leaf) = middle.leaf(CLIENT, 7, usual);
    let chain = [&*leaf, &*certificate];
    assert!(revoked(&pem(&[root.crl(&[5], 4000)]), &chain, &root));
    assert!(revoked(&pem(&[middle.crl(&[7], 4000)]), &chain, &root));
    assert!(revoked(&pem(&[root.crl(&[], 4000), middle.crl(&[7], 4000)]), &chain, &root), "several in one file");
    // Numbers of another issuer.
    assert!(!revoked(&pem(&[root.crl(&[7], 4000), middle.crl(&[5], 4000)]), &chain, &root));
    assert!(!revoked(&pem(&[Authority::new("another").crl(&[5, 7], 4000)]), &chain, &root));
}

#[test]
fn a_list_that_has_ended_counts() {
    let root = Authority::new("root");
    let (_, leaf) = root.leaf(CLIENT, 7, usual);
    let list = pem(&[root.crl(&[7], 2021)]);
    assert!(revoked(&list, &[&leaf], &root));
    assert!(Lists::parse(list.as_bytes()).unwrap().next_update.unwrap() < 1_700_000_000);
}

/// As after a root was made anew: its certificates have the numbers of the former one's again.
#[test]
fn a_list_of_a_namesake_revokes_nothing() {
    let [root, namesake] = ["root", "root"].map(Authority::new);
    let (_, leaf) = root.leaf(CLIENT, 7, usual);
    assert!(!revoked(&pem(&[namesake.crl(&[7], 4000)]), &[&leaf], &root));
    assert!(revoked(&pem(&[namesake.crl(&[7], 4000), root.crl(&[7], 4000)]), &[&leaf], &root));
}

#[test]
fn der_and_pem_are_the_same_and_nothing_else_is_a_list() {
    let root = Authority::new("root");
    let list = root.crl(&[7], 4000);
    assert_eq!(Lists::parse(list.der()).unwrap().len(), 1);
    let two = pem(&[list.clone(), Authority::new("other").crl(&[], 4000)]);
    assert_eq!(Lists::parse(two.as_bytes()).unwrap().len(), 2);
    let cut = &two[..two.len() - 60];
    let behind = [list.der(), &b"more"[..]].concat();
    for wrong in [&b""[..], b"nothing", root.root().as_bytes(), cut.as_bytes(), &list.der()[..50], &behind] {
        assert!(Lists::parse(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
    }
}

fn ends(client: &Credentials, server: &Credentials) -> (End, End) {
    let mut near = End::new(Handshake::client(client, &expected(&[SERVER])).unwrap());
    let mut far = End::new(Handshake::server(server).unwrap());
    talk(&mut near, &mut far, usize::MAX);
    (near, far)
}

fn lists(list: &rcgen::CertificateRevocationList) -> Lists {
    Lists::parse(list.der()).unwrap()
}

/// Each side looks at the other, in new handshakes and for as long as a tunnel is open.
#[test]
fn either_side_refuses_whom_its_list_names() {
    let root = Authority::new("root");
    let credentials = |name: &str, serial: u64, revocation: &Arc<Revocation>| {
        let (key, leaf) = root.leaf(name, serial, usual);
        Credentials::new(&identity(name), &key, &[leaf], &root.root(), revocation).unwrap()
    };
    let (clients, servers) = (Revocation::new(false), Revocation::new(false));
    let client = credentials(CLIENT, 1, &clients);
    let server = credentials(SERVER, 2, &servers);
    let (near, far) = ends(&client, &server);
    let (near_proof, far_proof) = (near.proof.unwrap(), far.proof.unwrap());
    assert!(near_proof.check().is_ok() && far_proof.check().is_ok() && !client.is_revoked());

    servers.replace(lists(&root.crl(&[1], 4000)));
    assert_eq!(far_proof.check().unwrap_err().refusal, Refusal::CertificateRevoked);
    assert!(near_proof.check().is_ok());
    let (near, far) = ends(&client, &server);
    assert_eq!(far.failure.unwrap().refusal, Refusal::CertificateRevoked);
    let told = near.failure.unwrap();
    assert_eq!(told.detail, "the peer sent the TLS alert certificate_revoked");

    clients.replace(lists(&root.crl(&[1, 2], 4000)));
    assert_eq!(near_proof.check().unwrap_err().refusal, Refusal::CertificateRevoked);
    assert!(client.is_revoked() && !server.is_revoked());
    let (near, far) = ends(&client, &server);
    assert_eq!(near.failure.unwrap().refusal, Refusal::CertificateRevoked);
    assert_eq!(far.failure.unwrap().detail, "the peer sent the TLS alert certificate_revoked");

    clients.replace(Lists::default());
    servers.replace(Lists::default());
    assert!(ends(&client, &server).0.peer.is_some(), "what is withdrawn is good again");
}

#[test]
fn nobody_is_believed_before_there_are_lists() {
    let awaited = Revocation::new(true);
    let root = Authority::new("root");
    let credentials = |revocation: &Arc<Revocation>| {
        let (key, leaf) = root.leaf(SERVER, 1, usual);
        Credentials::new(&identity(SERVER), &key, &[leaf], &root.root(), revocation).unwrap()
    };
    let (strict, free) = (credentials(&awaited), credentials(&Revocation::new(false)));
    awaited.lack("the file is no list");
    for (near, far) in [ends(&strict, &free), ends(&free, &strict)] {
        let ours = [near.failure, far.failure].into_iter().flatten().find(|f| f.refusal == Refusal::CrlUnusable);
        assert!(ours.expect("one side refuses").detail.contains("the file is no list"));
    }
    awaited.replace(Lists::default());
    assert!(ends(&strict, &free).0.peer.is_some());
    awaited.lack("what follows is none");
    assert!(ends(&strict, &free).0.peer.is_some(), "what was in force stays");
}
