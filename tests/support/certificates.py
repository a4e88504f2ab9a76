"""A certificate authority for tests: certificates as they should be, and as they should not."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

_PEM = serialization.Encoding.PEM
_USAGE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


@dataclass(frozen=True)
class Certificate:
    """Files in PEM: a leaf with its key, and the root that a peer is to be measured by."""

    chain: Path
    key: Path
    root: Path


class Authority:
    """A root, and what it signs."""

    def __init__(self, folder: Path, name: str = "cluster.local") -> None:
        """Files are put into `folder`, which is made."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name)])
        now = datetime.now(UTC)
        root = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.root = root.public_bytes(_PEM).decode()
        self.root_file = folder / "root.pem"
        self.root_file.write_text(self.root)
        self._issued = 0

    def sign(self, request: str) -> str:
        """The certificate (PEM) that a PKCS#10 request (PEM) asks for."""
        csr = x509.load_pem_x509_csr(request.encode())
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = csr.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return self._leaf(key, names, timedelta(hours=1))

    def issue(self, identity: str, lasts: timedelta = timedelta(hours=1)) -> Certificate:
        """A key and a certificate for it. `lasts`: how long from now; less than nothing when it is over."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
        self._issued += 1
        chain, secret = (self._folder / f"{self._issued}.{end}" for end in ("crt", "key"))
        chain.write_text(self._leaf(key.public_key(), names, lasts))
        form, no_password = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        secret.write_bytes(key.private_bytes(_PEM, form, no_password))
        return Certificate(chain, secret, self.root_file)

    def _leaf(
        self, key: ec.EllipticCurvePublicKey, names: x509.SubjectAlternativeName, lasts: timedelta
    ) -> str:
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=2))
            .not_valid_after(now + lasts)
            .add_extension(names, critical=True)
            .add_extension(_USAGE, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(_PEM).decode()
