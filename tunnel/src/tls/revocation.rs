//! Certificate revocation lists (RFC 5280 section 5): which certificates of a chain their issuers have taken back.
//!
//! As with ztunnel the whole chain counts, a certificate of which no list says anything is good, and a list stays in force
//! beyond its nextUpdate. A list speaks for the key that has signed it: a root that was made anew may have its former
//! name, and serial numbers begin anew.
use arc_swap::ArcSwapOption;
use rustls::pki_types::{pem::PemObject, CertificateDer, CertificateRevocationListDer};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::{ReasonCode, SubjectPublicKeyInfo};

/// What of them is in force in this process.
#[derive(Debug)]
pub struct Revocation {
    /// None where there have to be some and none could be used yet: then nobody is believed.
    lists: ArcSwapOption<Lists>,
    /// What is wrong with what should be in force instead.
    problem: ArcSwapOption<String>,
}

/// Lists by the name of their issuer, in DER.
#[derive(Debug, Default)]
pub struct Lists {
    by_issuer: HashMap<Box<[u8]>, Vec<List>>,
    /// The earliest nextUpdate of all, in Unix seconds.
    pub next_update: Option<i64>,
}

#[derive(Debug)]
struct List {
    serials: HashSet<Box<[u8]>>,
    /// The whole of it, for its signature.
    der: Box<[u8]>,
}

/// Why a chain is not believed.
#[derive(Debug, PartialEq)]
pub enum Distrust {
    Revoked,
    /// There is nothing to look it up in, for this reason.
    NoLists(String),
}

impl Revocation {
    /// With no lists, which is in force; or, `awaited`, until there are some.
    pub fn new(awaited: bool) -> Arc<Revocation> {
        let lists = (!awaited).then(Arc::default);
        Arc::new(Revocation { lists: ArcSwapOption::new(lists), problem: ArcSwapOption::empty() })
    }

    /// From now on these are in force.
    pub fn replace(&self, lists: Lists) {
        self.lists.store(Some(Arc::new(lists)));
        self.problem.store(None);
    }

    /// What should be in force cannot be: what was stays.
    pub fn lack(&self, problem: &str) {
        self.problem.store(Some(Arc::new(problem.to_owned())));
    }

    pub fn lists(&self) -> Option<Arc<Lists>> {
        self.lists.load_full()
    }

    pub fn problem(&self) -> Option<Arc<String>> {
        self.problem.load_full()
    }

    /// Whether no certificate of `chain` is revoked. `roots` are those by which it was verified.
    pub fn check<'a>(
        &self,
        chain: impl Iterator<Item = &'a CertificateDer<'a>> + Clone,
        roots: &'a [CertificateDer<'a>],
    ) -> Result<(), Distrust> {
        match &*self.lists.load() {
            Some(lists) if lists.revoke(chain, roots) => Err(Distrust::Revoked),
            Some(_) => Ok(()),
            None => {
                let problem = self.problem().map_or_else(|| "not read yet".to_owned(), |problem| problem.to_string());
                Err(Distrust::NoLists(problem))
            }
        }
    }
}

impl Lists {
    /// One in DER, or any number in PEM. Errors, as text: none, a malformed one, or one that is not whole by itself
    /// (delta and indirect lists, critical extensions that are not known here).
    pub fn parse(data: &[u8]) -> Result<Lists, String> {
        let mut lists = Lists::default();
        if data.first() == Some(&0x30) {
            lists.add(data)?;
            return Ok(lists);
        }
        for der in CertificateRevocationListDer::pem_slice_iter(data) {
            lists.add(&der.map_err(|error| format!("not PEM: {error:?}"))?)?;
        }
        if lists.len() == 0 {
            return Err("no certificate revocation list in it".into());
        }
        Ok(lists)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_issuer.values().map(Vec::len).sum()
    }

    fn add(&mut self, der: &[u8]) -> Result<(), String> {
        let malformed = |what: &dyn std::fmt::Display| format!("malformed certificate revocation list: {what}");
        let (rest, list) = CertificateRevocationList::from_der(der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(malformed(&"more behind its end"));
        }
        understand(list.extensions())?;
        let mut serials = HashSet::new();
        for entry in list.iter_revoked_certificates() {
            understand(entry.extensions())?;
            if entry.reason_code().is_none_or(|(_, reason)| reason != ReasonCode::RemoveFromCRL) {
                serials.insert(serial(entry.raw_serial()).into());
            }
        }
        let next_update = list.next_update().map(|time| time.timestamp());
        self.next_update = self.next_update.into_iter().chain(next_update).min();
        let of_issuer = self.by_issuer.entry(list.issuer().as_raw().into()).or_default();
        of_issuer.push(List { serials, der: der.into() });
        Ok(())
    }

    /// Whether one of the chain's certificates is on the list of its issuer.
    fn revoke<'a>(
        &self,
        chain: impl Iterator<Item = &'a CertificateDer<'a>> + Clone,
        roots: &'a [CertificateDer<'a>],
    ) -> bool {
        let parse = |der: &'a CertificateDer<'a>| X509Certificate::from_der(der).map(|(_, parsed)| parsed);
        !self.by_issuer.is_empty()
            && chain.clone().any(|der| {
                let Ok(certificate) = parse(der) else { return true }; // of which nobody can say that it is not
                let issuer = certificate.issuer().as_raw();
                self.by_issuer.get(issuer).into_iter().flatten().any(|list| {
                    let issuers = || chain.clone().chain(roots).filter_map(|der| parse(der).ok());
                    list.serials.contains(serial(certificate.raw_serial()))
                        && issuers()
                            .filter(|candidate| candidate.subject().as_raw() == issuer)
                            .any(|candidate| list.is_by_issuer_of(&certificate, candidate.public_key()))
                })
            })
    }
}

impl List {
    /// Whether that key has signed both. What cannot be decided counts as signed.
    fn is_by_issuer_of(&self, certificate: &X509Certificate, key: &SubjectPublicKeyInfo) -> bool {
        let is_by = |verified| !matches!(verified, Err(X509Error::SignatureVerificationError));
        is_by(certificate.verify_signature(Some(key)))
            && CertificateRevocationList::from_der(&self.der)
                .map_or(true, |(_, list)| is_by(list.verify_signature(key)))
    }
}

fn understand(extensions: &[X509Extension]) -> Result<(), String> {
    for extension in extensions {
        match extension.parsed_extension() {
            ParsedExtension::IssuingDistributionPoint(point) if point.indirect_crl => {
                return Err("an indirect certificate revocation list, of certificates of other issuers".into());
            }
            ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::ParseError { .. } if extension.critical => {
                return Err(format!("a certificate revocation list with the critical extension {}", extension.oid));
            }
            _ => {}
        }
    }
    Ok(())
}

/// An INTEGER's content, without what some encoders put in front of it.
fn serial(raw: &[u8]) -> &[u8] {
    let zeros = raw.iter().take_while(|byte| **byte == 0).count();
    &raw[zeros..]
}

#[cfg(test)]
mod tests;
