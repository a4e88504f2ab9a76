"""Authorities of an organisation, as an operator plugs them in: a root, intermediates, the mesh's own CA."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent.ca import keys
from agent.ca.signer import Material, pem

DAY = timedelta(days=1)
NAMES = ("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem")  # of a Material's parts in Secrets
_SIGNS = dict.fromkeys(
    ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
     "encipher_only", "decipher_only"), False)  # fmt: skip


@dataclass(frozen=True)
class Authority:
    """A key and its certificate."""

    key: keys.PrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return pem(self.certificate)


def authority(name: str, issuer: Authority | None = None, **special: Any) -> Authority:
    """One that `issuer` vouches for; None: a root.

    special: key; ends and begins (from now, timedelta); ca, signs, lists, path_length: of its extensions.
    """
    key = special.get("key") or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    above = issuer.certificate.subject if issuer else subject
    constraints = x509.BasicConstraints(special.get("ca", True), special.get("path_length"))
    usage = x509.KeyUsage(
        key_cert_sign=special.get("signs", True), crl_sign=special.get("lists", True), **_SIGNS
    )
    builder = (
        x509.CertificateBuilder(above, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + special.get("begins", -DAY))
        .not_valid_after(now + special.get("ends", 100 * DAY))
        .add_extension(constraints, critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Authority(key, builder.sign(issuer.key if issuer else key, hashes.SHA256()))


def material(*path: Authority, roots: str = "") -> Material:
    """To sign with the first; the last is the root, unless others are given."""
    signing, *above = path
    chain = "".join(one.pem for one in (signing, *above[:-1]))
    return Material(signing.pem, keys.to_pem(signing.key).decode(), chain, roots or path[-1].pem)
