//! What certificates are measured by, and why one is refused.
use super::credentials::certificates;
use super::provider::MESH;
use super::revocation::{Distrust, Revocation};
use crate::base::{Failure, Refusal};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, OtherError, RootCertStore};
use std::iter::once;
use std::sync::Arc;

/// What a certificate is measured by: roots, and what is revoked.
#[derive(Debug)]
pub struct Trust {
    pub(super) store: Arc<RootCertStore>,
    pub(super) roots: Vec<CertificateDer<'static>>,
    revocation: Arc<Revocation>,
}

impl Trust {
    pub(super) fn new(roots: &str, revocation: &Arc<Revocation>) -> Result<Trust, String> {
        Trust::of(certificates(roots)?, revocation)
    }

    pub(super) fn of(roots: Vec<CertificateDer<'static>>, revocation: &Arc<Revocation>) -> Result<Trust, String> {
        let mut store = RootCertStore::empty();
        for root in &roots {
            store.add(root.clone()).map_err(|error| format!("root certificate: {error}"))?;
        }
        if store.is_empty() {
            return Err("no root certificate".into());
        }
        Ok(Trust { store: Arc::new(store), roots, revocation: revocation.clone() })
    }

    /// Whether a server's chain leads to one of the roots, and nothing in it is revoked.
    pub(super) fn verify_server(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let algorithms = MESH.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.store, intermediates, now, algorithms)?;
        self.check(once(certificate).chain(intermediates))
    }

    /// Whether no certificate of a chain is revoked.
    pub(super) fn check<'a>(
        &'a self,
        chain: impl Iterator<Item = &'a CertificateDer<'a>> + Clone,
    ) -> Result<(), Error> {
        self.revocation.check(chain, &self.roots).map_err(|distrust| match distrust {
            Distrust::Revoked => Error::InvalidCertificate(CertificateError::Revoked),
            Distrust::NoLists(problem) => wrong_peer(Refusal::CrlUnusable, problem),
        })
    }
}

/// By what a peer has proven who it is; for as long as its tunnel is open it may be revoked.
pub struct Proof {
    chain: Box<[CertificateDer<'static>]>,
    trust: Arc<Trust>,
}

impl Proof {
    pub fn new(chain: &[CertificateDer<'static>], trust: &Arc<Trust>) -> Proof {
        Proof { chain: chain.into(), trust: trust.clone() }
    }

    pub fn check(&self) -> Result<(), Failure> {
        Ok(self.trust.check(self.chain.iter())?)
    }
}

/// Why a certificate that the roots vouch for is refused all the same.
#[derive(Debug)]
struct WrongPeer(Refusal, String);

impl std::fmt::Display for WrongPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for WrongPeer {}

pub(super) fn wrong_peer(refusal: Refusal, detail: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(WrongPeer(refusal, detail)))))
}

/// The named reason in an error of the verifiers below.
pub fn refusal_of(error: &OtherError) -> Option<Refusal> {
    error.0.downcast_ref::<WrongPeer>().map(|wrong| wrong.0)
}
