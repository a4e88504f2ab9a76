//! Who a pod is and whom it believes: certificates, keys and the TLS configurations made of them, once per renewal.
use crate::base::{Identity, Refusal};
use crate::tls::provider::MESH;
use crate::tls::revocation::Revocation;
pub use crate::tls::trust::Proof;
use crate::tls::trust::{wrong_peer, Trust};
use crate::tls::verifier::{ClientVerifier, JudgeClient, JudgeServer, ServerVerifier};
use lru::LruCache;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType, PKCS_ECDSA_P256_SHA256};
use rustls::client::Resumption;
use rustls::pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, Error, ServerConfig};
use serde::Serialize;
use std::iter::once;
use std::sync::{Arc, Mutex, PoisonError};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A private key that waits for its certificate. It never leaves this process.
pub struct Key(KeyPair);

impl Key {
    /// A new P-256 key, and the request (PKCS#10, PEM) to sign it for `identity`: an empty subject and one URI SAN.
    pub fn generate(identity: &Identity) -> Result<(Self, String), String> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| e.to_string())?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let name = identity.to_string().try_into().map_err(|e: rcgen::Error| e.to_string())?;
        params.subject_alt_names = vec![SanType::URI(name)];
        let request = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(|e| e.to_string())?;
        Ok((Key(key), request))
    }
}

pub struct Credentials {
    pub server: Arc<ServerConfig>,
    /// Unix seconds.
    pub not_after: i64,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pub trust: Arc<Trust>,
    trust_domain: Arc<str>,
    /// One configuration for each set of identities that a peer may have, of those that were dialled lately: building one
    /// costs more than a handshake's message.
    clients: Mutex<LruCache<Arc<[Identity]>, Arc<ClientConfig>>>,
}

/// Configurations that are kept, of some kilobytes each. A pod may meet any number of identities in a certificate's life.
const CLIENTS_MAX: usize = 128;

impl Credentials {
    /// `chain`: PEM, leaf first; `roots`: PEM, one or several.
    ///
    /// Errors, as text: no PEM, a leaf of another identity or another key, a root that is no certificate.
    pub fn new(
        identity: &Identity,
        key: &Key,
        chain: &[String],
        roots: &str,
        revocation: &Arc<Revocation>,
    ) -> Result<Self, String> {
        let chain = chain.iter().map(|pem| certificates(pem)).collect::<Result<Vec<_>, _>>()?.concat();
        let leaf = chain.first().ok_or("the certificate chain is empty")?;
        if !spiffe_names(leaf).contains(identity) {
            return Err(format!("the certificate is not for {identity}"));
        }
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|e| e.to_string())?;
        let not_after = parsed.validity().not_after.timestamp();
        let trust = Arc::new(Trust::new(roots, revocation)?);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.0.serialize_der()));
        let server = server_config(identity, chain.clone(), key.clone_key(), &trust).map_err(|e| e.to_string())?;
        let trust_domain = identity.trust_domain.clone();
        Ok(Credentials {
            server: Arc::new(server),
            not_after,
            chain,
            key,
            trust,
            trust_domain,
            clients: Mutex::new(LruCache::unbounded()), // without room made ahead
        })
    }

    /// What others are shown, leaf first, and the roots that others are measured by.
    pub fn certificates(&self) -> (Vec<CertificateFacts>, Vec<CertificateFacts>) {
        (facts(&self.chain), facts(&self.trust.roots))
    }

    /// Whether our own certificate is.
    pub fn is_revoked(&self) -> bool {
        self.trust.check(self.chain.iter()).is_err()
    }

    /// Whom the server takes for a client.
    pub fn clients(&self) -> Expected {
        Expected::TrustDomain(self.trust_domain.clone())
    }

    /// For tunnels to a peer that must be one of `expected`.
    pub fn client(&self, expected: &Arc<[Identity]>) -> Result<Arc<ClientConfig>, Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = clients.get(expected) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.client_config(expected)?);
        clients.put(expected.clone(), config.clone());
        if clients.len() > CLIENTS_MAX {
            clients.pop_lru();
        }
        Ok(config)
    }

    fn client_config(&self, expected: &Arc<[Identity]>) -> Result<ClientConfig, Error> {
        let judge = Peer { trust: self.trust.clone(), expected: Expected::OneOf(expected.clone()) };
        let verifier = ServerVerifier { judge, algorithms: MESH.signature_verification_algorithms };
        let mut config = ClientConfig::builder_with_provider(MESH.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.enable_sni = false;
        config.enable_secret_extraction = true; // for the record layer of our own
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// What a certificate says of itself. Times are Unix seconds; serial: hexadecimal.
#[derive(Serialize)]
pub struct CertificateFacts {
    subject: String,
    issuer: String,
    serial: String,
    not_before: i64,
    not_after: i64,
}

/// Of those that can be read, as all can that are in use.
fn facts(certificates: &[CertificateDer<'static>]) -> Vec<CertificateFacts> {
    let facts = |der: &CertificateDer<'static>| {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let names = spiffe_names(der).iter().map(Identity::to_string).collect::<Vec<_>>().join(" ");
        Some(CertificateFacts {
            subject: if names.is_empty() { parsed.subject().to_string() } else { names },
            issuer: parsed.issuer().to_string(),
            serial: parsed.raw_serial_as_string(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        })
    };
    certificates.iter().filter_map(facts).collect()
}

/// PEM.
pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn server_config(
    identity: &Identity,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    trust: &Arc<Trust>,
) -> Result<ServerConfig, Error> {
    let inner = WebPkiClientVerifier::builder_with_provider(trust.store.clone(), MESH.clone())
        .clear_root_hint_subjects() // hints would only tell strangers whom we trust
        .build()
        .map_err(|e| Error::General(e.to_string()))?;
    let judge = Peer { trust: trust.clone(), expected: Expected::TrustDomain(identity.trust_domain.clone()) };
    let verifier = ClientVerifier { inner, judge };
    let mut config = ServerConfig::builder_with_provider(MESH.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.enable_secret_extraction = true;
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// All SPIFFE names of a certificate, in its order. Other names are ignored.
pub fn spiffe_names(certificate: &CertificateDer) -> Vec<Identity> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let uri = |name: &GeneralName| match name {
        GeneralName::URI(uri) => uri.parse().ok(),
        _ => None,
    };
    names.value.general_names.iter().filter_map(uri).collect()
}

fn named(names: &[Identity]) -> String {
    match names {
        [] => "no SPIFFE name".into(),
        names => names.iter().map(Identity::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// Who a peer has to be, beyond that our roots vouch for it (ztunnel's rules).
#[derive(Clone, Debug)]
pub enum Expected {
    /// A server: one of these, whatever their trust domain.
    OneOf(Arc<[Identity]>),
    /// A client: anybody of our trust domain.
    TrustDomain(Arc<str>),
}

impl Expected {
    /// The first name of a certificate by which it is somebody expected. Fails with what it is instead.
    pub fn prove(&self, certificate: &CertificateDer) -> Result<Identity, Error> {
        let names = spiffe_names(certificate);
        let found = match self {
            Expected::OneOf(expected) => names.iter().find(|name| expected.contains(name)),
            Expected::TrustDomain(domain) => names.iter().find(|name| name.trust_domain == *domain),
        };
        found.cloned().ok_or_else(|| match self {
            Expected::OneOf(expected) => {
                let detail = format!("the peer is {}, expected {}", named(&names), named(expected));
                wrong_peer(Refusal::PeerIdentity, detail)
            }
            Expected::TrustDomain(domain) => {
                let detail = format!("the peer is {}, our trust domain is {domain}", named(&names));
                wrong_peer(Refusal::PeerTrustDomain, detail)
            }
        })
    }
}

/// A chain to our roots, and an expected identity; a server's address plays no part.
#[derive(Debug)]
struct Peer {
    trust: Arc<Trust>,
    expected: Expected,
}

impl JudgeServer for Peer {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        self.trust.verify_server(certificate, intermediates, now)?;
        self.expected.prove(certificate).map(drop)
    }
}

impl JudgeClient for Peer {
    fn judge(&self, certificate: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        self.trust.check(once(certificate).chain(intermediates))?;
        self.expected.prove(certificate).map(drop)
    }
}

#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used)] // as in tests, which clippy knows only by `cfg(test)` alone
#[cfg_attr(fuzzing, allow(dead_code))]
pub mod testing;
#[cfg(test)]
mod tests;
