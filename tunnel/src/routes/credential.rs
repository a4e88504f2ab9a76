//! Certificates and keys for TLS that we begin (`warren.routes.Credential`).

use std::fmt;

use prost::Message;

use super::proto;

/// PEM throughout; what is empty is not there.
#[derive(PartialEq, Eq)]
pub struct Credential {
    pub name: Box<str>,
    /// With the chain.
    pub certificate: Box<[u8]>,
    pub key: Box<[u8]>,
    pub roots: Box<[u8]>,
    pub crl: Box<[u8]>,
    /// Why it cannot be used.
    pub problem: Option<Box<str>>,
}

impl Credential {
    pub fn decode(body: &[u8]) -> Result<Credential, String> {
        let sent = proto::Credential::decode(body).map_err(|error| error.to_string())?;
        Ok(Credential {
            name: sent.name.into(),
            certificate: sent.certificate.into(),
            key: sent.private_key.into(),
            roots: sent.ca_certificates.into(),
            crl: sent.ca_crl.into(),
            problem: Some(sent.problem.into_boxed_str()).filter(|problem| !problem.is_empty()),
        })
    }
}

/// Never tells the key.
impl fmt::Debug for Credential {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Credential").field("name", &self.name).field("problem", &self.problem).finish_non_exhaustive()
    }
}
