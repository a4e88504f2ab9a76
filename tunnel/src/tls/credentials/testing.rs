//! A certificate authority for tests.
use super::{Credentials, Key};
use crate::base::Identity;
use crate::tls::revocation::Revocation;
use rcgen::{
    date_time_ymd, BasicConstraints, CertificateParams, CertificateRevocationList, CertificateRevocationListParams,
    CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, RevocationReason,
    RevokedCertParams, SanType, SerialNumber,
};
use std::sync::Arc;

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What those know to be revoked who believe it.
    pub revocation: Arc<Revocation>,
}

/// The changes that make a certificate another one than usual.
pub type Change = fn(&mut CertificateParams);

pub fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

pub fn expected(texts: &[&str]) -> Arc<[Identity]> {
    texts.iter().map(|text| identity(text)).collect()
}

fn issuing(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Authority {
    /// A root. Those of one name have different keys.
    pub fn new(name: &str) -> Authority {
        let issuer = CertifiedIssuer::self_signed(issuing(name), KeyPair::generate().unwrap()).unwrap();
        Authority { issuer, revocation: Revocation::new(false) }
    }

    /// PEM.
    pub fn root(&self) -> String {
        self.issuer.pem()
    }

    /// A leaf of that name and number, PEM, and its key.
    pub fn leaf(&self, name: &str, serial: u64, change: Change) -> (Key, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let certificate = params.signed_by(&key, &*self.issuer).unwrap();
        (Key(key), certificate.pem())
    }

    /// For a pod that believes `root`.
    pub fn credentials(&self, name: &str, root: &Authority, change: Change) -> Credentials {
        let (key, leaf) = self.leaf(name, 1, change);
        Credentials::new(&identity(name), &key, &[leaf], &root.root(), &root.revocation).unwrap()
    }
}

impl Authority {
    /// An intermediate authority of that number, and its certificate, PEM.
    pub fn intermediate(&self, name: &str, serial: u64) -> (Authority, String) {
        let mut params = issuing(name);
        params.serial_number = Some(SerialNumber::from(serial));
        let issuer = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &*self.issuer).unwrap();
        let pem = issuer.pem();
        (Authority { issuer, revocation: self.revocation.clone() }, pem)
    }

    /// A list of these numbers, which was to be renewed in that year.
    pub fn crl(&self, serials: &[u64], year: i32) -> CertificateRevocationList {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&*self.issuer).unwrap()
    }
}

pub fn usual(_: &mut CertificateParams) {}

pub fn expired(params: &mut CertificateParams) {
    params.not_after = date_time_ymd(2001, 1, 1);
}

pub fn not_yet_valid(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(4000, 1, 1);
}

pub fn for_clients_only(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}

pub fn for_servers_only(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}
