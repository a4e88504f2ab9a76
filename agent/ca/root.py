"""A root of our own making."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from agent.ca import keys
from agent.ca.signer import Material, pem

LIFETIME = timedelta(days=3650)
CLOCK_SKEW = timedelta(minutes=2)  # by how much a peer's clock may be behind ours


def make(trust_domain: str, now: datetime) -> Material:
    """A new P-256 key and its root."""
    key = keys.make()
    root = pem(self_signed(key, trust_domain, now))
    return Material(root, keys.to_pem(key).decode(), "", root)


def self_signed(key: keys.PrivateKey, trust_domain: str, now: datetime) -> x509.Certificate:
    """A root for the key, for 10 years from now.

    Its name is its own: a revocation list is found by its issuer's name, and peers refuse every certificate
    for which they find one whose signature does not fit.
    """
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain),
            x509.NameAttribute(NameOID.COMMON_NAME, f"root {identifier.digest.hex()[:16]}"),
        ]
    )
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
    )
    return builder.sign(key, hashes.SHA256())
