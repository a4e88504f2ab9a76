//! TLS as a gateway terminates it for clients outside of the mesh: certificates of its own names, client certificates where
//! they are asked for. No SPIFFE identity plays a part.
use super::provider::ANYBODY;
use super::verifier::{ClientVerifier, JudgeClient};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, Error, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

pub struct Terms<'a> {
    /// Chains, the leaf first, with their keys; PEM.
    pub chains: Vec<(&'a [u8], &'a [u8])>,
    /// None: no client is asked for a certificate.
    pub clients: Option<Clients<'a>>,
    /// The lowest and the highest; 12, 13, or 0 for no bound.
    pub versions: (u32, u32),
    /// HTTP is spoken: of its versions the client chooses.
    pub http: bool,
}

pub struct Clients<'a> {
    /// Who shows none is turned away.
    pub required: bool,
    /// PEM.
    pub roots: &'a [u8],
    /// PEM.
    pub crl: &'a [u8],
    /// DNS names and URIs; none: any.
    pub names: &'a [String],
}

/// Errors, as text: no PEM, a chain of another key, no root.
pub fn configuration(terms: &Terms<'_>) -> Result<ServerConfig, String> {
    let keys = terms.chains.iter().map(|(chain, key)| certified(chain, key)).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Err("no certificate".into());
    }
    let builder = ServerConfig::builder_with_provider(ANYBODY.clone())
        .with_protocol_versions(&versions(terms.versions)?)
        .map_err(|error| error.to_string())?;
    let builder = match &terms.clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(verifier(clients)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Certificates(keys)));
    if terms.http {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Ok(config)
}

fn versions((lowest, highest): (u32, u32)) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let allowed = |number: u32| lowest <= number && (highest == 0 || number <= highest);
    let all = [(13, &TLS13), (12, &TLS12)].into_iter().filter(|(number, _)| allowed(*number));
    let all: Vec<_> = all.map(|(_, version)| version).collect();
    (!all.is_empty()).then_some(all).ok_or_else(|| format!("no version of TLS is from {lowest} to {highest}"))
}

fn certified(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    let chain = certificates(chain).map_err(|error| format!("the certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the private key: {error}"))?;
    let certified = CertifiedKey::from_der(chain, key, &ANYBODY).map_err(|error| error.to_string())?;
    certified.keys_match().map_err(|error| error.to_string())?;
    Ok(Arc::new(certified))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

/// The first that the client's algorithms allow.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let allowed = |one: &&Arc<CertifiedKey>| one.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(allowed).cloned()
    }
}

fn verifier(clients: &Clients<'_>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for root in certificates(clients.roots).map_err(|error| format!("the clients' roots: {error}"))? {
        roots.add(root).map_err(|error| format!("the clients' roots: {error}"))?;
    }
    let lists = CertificateRevocationListDer::pem_slice_iter(clients.crl).collect::<Result<Vec<_>, _>>();
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), ANYBODY.clone())
        .with_crls(lists.map_err(|error| format!("the revocation lists: {error}"))?)
        .allow_unknown_revocation_status();
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    let inner = builder.build().map_err(|error| format!("the clients' roots: {error}"))?;
    match clients.names {
        [] => Ok(inner),
        names => Ok(Arc::new(ClientVerifier { inner, judge: Named(names.into()) })),
    }
}

/// Beyond what roots vouch for, a certificate has one of these names.
#[derive(Debug)]
struct Named(Box<[String]>);

impl Named {
    fn fits(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
        let Ok(Some(found)) = parsed.subject_alternative_name() else { return false };
        found.value.general_names.iter().any(|name| match name {
            GeneralName::DNSName(name) => self.0.iter().any(|one| one.eq_ignore_ascii_case(name)),
            GeneralName::URI(name) => self.0.iter().any(|one| one == name),
            _ => false,
        })
    }
}

impl JudgeClient for Named {
    fn judge(&self, certificate: &CertificateDer<'_>, _: &[CertificateDer<'_>]) -> Result<(), Error> {
        let unfit = || Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        self.fits(certificate).then_some(()).ok_or_else(unfit)
    }
}
