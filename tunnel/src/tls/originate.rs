//! TLS that we begin towards servers outside of the mesh (DestinationRule tls.mode SIMPLE and MUTUAL): 1.2 or 1.3, with
//! rustls' own record layer, for these connections are few and their peers are anybody.
use super::provider::ANYBODY;
use super::revocation::{Lists, Revocation};
use super::trust::{wrong_peer, Trust};
use super::verifier::{JudgeServer, ServerVerifier};
use crate::base::refusal::quoted;
use crate::base::{Failure, Refusal};
use rustls::client::verify_server_name;
use rustls::pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, Error};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What a server has to be, and what it is shown. PEM throughout.
pub struct Terms<'a> {
    /// None: those of the system.
    pub roots: Option<&'a [u8]>,
    /// Empty: nothing is revoked.
    pub crl: &'a [u8],
    /// A certificate with its chain, and its key.
    pub client: Option<(&'a [u8], &'a [u8])>,
    /// Of which the server has to have one; none: the name by which it is called.
    pub subject_alt_names: &'a [Box<str>],
    /// Whether the server's certificate is looked at.
    pub verify: bool,
    pub http2: bool,
}

impl Terms<'_> {
    /// Kept for as long as the terms hold: sessions are resumed by it. Errors say what of them cannot be used.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let judge = Wanted(match self.verify {
            true => Some((self.trust()?, self.subject_alt_names.into())),
            false => None,
        });
        let algorithms = ANYBODY.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(ANYBODY.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier { judge, algorithms }));
        let mut config = match self.client {
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the private key: {error}"))?;
                let chain = certificates(chain).map_err(|error| format!("the certificate: {error}"))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| format!("the certificate and its key: {error}"))?
            }
            None => builder.with_no_client_auth(),
        };
        // As Istio, which offers a protocol to servers of HTTP/2 only.
        config.alpn_protocols = if self.http2 { vec![b"h2".to_vec()] } else { vec![] };
        Ok(Arc::new(config))
    }

    fn trust(&self) -> Result<Trust, String> {
        let revocation = Revocation::new(false);
        if !self.crl.is_empty() {
            revocation.replace(Lists::parse(self.crl).map_err(|error| format!("the CRL: {error}"))?);
        }
        let roots = match self.roots {
            Some(pem) => certificates(pem),
            None => system_roots(),
        };
        Trust::of(roots.map_err(|error| format!("the CA: {error}"))?, &revocation)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    (!all.is_empty()).then_some(all).ok_or_else(|| "no PEM certificate in it".to_owned())
}

fn system_roots() -> Result<Vec<CertificateDer<'static>>, String> {
    let loaded = rustls_native_certs::load_native_certs();
    let problem = || match loaded.errors.first() {
        Some(error) => error.to_string(),
        None => "this system has no bundle of roots (SSL_CERT_FILE, /etc/ssl/certs)".to_owned(),
    };
    (!loaded.certs.is_empty()).then_some(loaded.certs).ok_or_else(problem)
}

/// The handshake; `name` goes with it unless it is an address.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    name: &str,
    io: S,
) -> Result<TlsStream<S>, Failure> {
    let server = ServerName::try_from(name.to_owned());
    let server = server
        .map_err(|_| Failure { refusal: Refusal::TlsFailure, detail: format!("{name:?} is no name of a server") })?;
    let http2 = !config.alpn_protocols.is_empty();
    let stream = TlsConnector::from(config).connect(server, io).await.map_err(|error| failure(&error))?;
    match stream.get_ref().1.alpn_protocol() {
        Some(protocol) if http2 && protocol != b"h2" => {
            Err(Failure { refusal: Refusal::TlsFailure, detail: "the server does not speak HTTP/2".to_owned() })
        }
        _ => Ok(stream),
    }
}

/// What an error of such a stream means.
pub fn failure(error: &io::Error) -> Failure {
    let inner = error.get_ref();
    if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<Error>()) {
        return error.clone().into();
    }
    if let Some(failure) = inner.and_then(|inner| inner.downcast_ref::<Failure>()) {
        return failure.clone();
    }
    Failure { refusal: Refusal::TlsFailure, detail: format!("the server broke off: {error}") }
}

/// A chain to the roots, and a name; None: any server.
#[derive(Debug)]
struct Wanted(Option<(Trust, Box<[Box<str>]>)>);

impl JudgeServer for Wanted {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let Some((trust, names)) = &self.0 else { return Ok(()) };
        trust.verify_server(certificate, intermediates, now)?;
        match names.is_empty() {
            true => verify_server_name(&ParsedCertificate::try_from(certificate)?, name),
            false => prove(certificate, names),
        }
    }
}

/// Whether a certificate has one of these subject alternative names, whatever their kind (Istio's subjectAltNames).
fn prove(certificate: &CertificateDer<'_>, wanted: &[Box<str>]) -> Result<(), Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.map(|names| &*names.value.general_names).unwrap_or_default();
    if names.iter().any(|name| wanted.iter().any(|wanted| is_named(name, wanted))) {
        return Ok(());
    }
    let told = names.iter().map(|name| quoted(&name.to_string())).collect::<Vec<_>>().join(", ");
    Err(wrong_peer(Refusal::CertificateName, format!("it has {told}, subjectAltNames are {}", wanted.join(", "))))
}

fn is_named(name: &GeneralName<'_>, wanted: &str) -> bool {
    match name {
        GeneralName::DNSName(name) => covers(name, wanted),
        GeneralName::URI(name) | GeneralName::RFC822Name(name) => *name == wanted,
        GeneralName::IPAddress(bytes) => match wanted.parse() {
            Ok(IpAddr::V4(ip)) => ip.octets() == **bytes,
            Ok(IpAddr::V6(ip)) => ip.octets() == **bytes,
            Err(_) => false,
        },
        _ => false,
    }
}

/// A leftmost `*` is any one label (RFC 6125 section 6.4.3).
fn covers(name: &str, wanted: &str) -> bool {
    match (name.strip_prefix("*."), wanted.split_once('.')) {
        (Some(parent), Some((_, rest))) => parent.eq_ignore_ascii_case(rest),
        _ => name.eq_ignore_ascii_case(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_one_label() {
        for (name, wanted, expected) in [
            ("a.example", "A.example", true),
            ("*.example", "a.example", true),
            ("*.example", "a.b.example", false),
            ("*.example", "example", false),
            ("a.example", "b.example", false),
            ("*.a.example", "*.a.example", true),
        ] {
            assert_eq!(covers(name, wanted), expected, "{name} {wanted}");
        }
    }

    #[test]
    fn terms_say_what_of_them_cannot_be_used() {
        let terms =
            Terms { roots: Some(b""), crl: b"", client: None, subject_alt_names: &[], verify: true, http2: false };
        assert_eq!(terms.config().unwrap_err(), "the CA: no PEM certificate in it");
        let unverified = Terms { verify: false, ..terms };
        assert!(unverified.config().unwrap().alpn_protocols.is_empty());
        let client = Some((&b"x"[..], &b"y"[..]));
        assert!(Terms { client, ..unverified }.config().unwrap_err().starts_with("the private key: "));
    }
}
