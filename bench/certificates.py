"""Certificates for a pair of proxies that have no certificate authority of their own."""

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bench.errors import BenchError

LIFETIME = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """Files in PEM, and the SPIFFE ID that the certificate carries."""

    spiffe: str
    chain: Path
    key: Path
    roots: Path


def issue(folder: Path, names: list[str], namespace: str, authority: Path | None = None) -> list[Identity]:
    """Make a P-256 certificate for each service account in `names`; files go to `folder`.

    They are signed by a root of their own, or by the CA whose `root.pem` and `root.key` are in `authority`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    roots = (authority or folder) / "root.pem"
    root_key = _read_key(authority / "root.key") if authority else _make_root(roots)
    issuer = x509.load_pem_x509_certificate(roots.read_bytes()).subject
    identities = []
    for name in names:
        identity = Identity(
            f"spiffe://cluster.local/ns/{namespace}/sa/{name}",
            folder / f"{name}.pem",
            folder / f"{name}.key",
            roots,
        )
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(issuer, x509.Name([]), key.public_key())
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.spiffe)]), critical=True
            )
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(root_key, hashes.SHA256())
        )
        identity.chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        identity.key.touch(mode=0o600)
        identity.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        identities.append(identity)
    return identities


def _make_root(to: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "warren benchmark")])
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    root = _builder(name, name, key.public_key()).add_extension(constraints, critical=True)
    to.write_bytes(root.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return key


def _read_key(file: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BenchError(f"{file} is no key on an elliptic curve")
    return key


def _builder(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
    )
