"""The root: a key and a certificate on disk, made at the first start."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.ca.errors import AuthorityError
from agent.ca.files import locked, write_atomically

LIFETIME = timedelta(days=3650)
CLOCK_SKEW = timedelta(minutes=2)  # by how much a peer's clock may be behind ours


@dataclass(frozen=True)
class Root:
    """What signs, and what is trusted: `bundle` is root.pem, with the signing certificate and other roots."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    bundle: str

    @classmethod
    def open(cls, directory: Path, trust_domain: str) -> Self:
        """Read `root.pem` and `root.key` below `directory`, or make them: P-256, self-signed, 10 years.

        `root.pem` may hold more roots beside the one of the key: peers are told to trust all of them, which
        is how a root is replaced. Raises AuthorityError.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(directory):
                if not (directory / "root.pem").exists():
                    _make(directory, trust_domain)
            return cls._read(directory)
        except OSError as error:
            raise AuthorityError(f"the root in {directory}: {error}") from error

    @classmethod
    def _read(cls, directory: Path) -> Self:
        key = _read_key(directory / "root.key")
        path = directory / "root.pem"
        bundle = path.read_text(encoding="ascii", errors="replace")
        try:
            certificates = x509.load_pem_x509_certificates(bundle.encode())
        except ValueError as error:
            raise AuthorityError(f"{path} holds no certificates in PEM: {error}") from error
        ours = [found for found in certificates if found.public_key() == key.public_key()]
        if not ours:
            raise AuthorityError(
                f"{path} has no certificate for the key in root.key: put back the one that fits"
            )
        if ours[0].not_valid_after_utc <= datetime.now(UTC):
            end = f"{ours[0].not_valid_after_utc:%Y-%m-%d}"
            raise AuthorityError(f"{path} ended on {end}: move it and root.key away for a new root")
        return cls(key, ours[0], bundle)


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.stat().st_mode & 0o077:
        raise AuthorityError(f"{path} can be read by others: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise AuthorityError(f"{path} holds no private key in PEM without a password: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityError(f"{path} is not an elliptic-curve key")
    return key


def _make(directory: Path, trust_domain: str) -> None:
    """The key first: when this is cut short, the next start finishes it with the same key."""
    path = directory / "root.key"
    if not path.exists():
        private = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_atomically(path, private, 0o600)
    certificate = _self_signed(_read_key(path), trust_domain)
    write_atomically(directory / "root.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _self_signed(key: ec.EllipticCurvePrivateKey, trust_domain: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain)])
    now = datetime.now(UTC)
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
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256())
