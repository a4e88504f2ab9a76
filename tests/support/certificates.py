"""A certificate authority for tests: certificates as they should be, and as they should not."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

_PEM = serialization.Encoding.PEM
_HOUR = timedelta(hours=1)
SERVERS, CLIENTS = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True)
class Terms:
    """What a certificate is good for: from when on and until when, from now, and for whom."""

    begins: timedelta = timedelta(hours=-2)
    ends: timedelta = _HOUR
    usage: tuple[x509.ObjectIdentifier, ...] = (SERVERS, CLIENTS)


USUAL = Terms()
EXPIRED = Terms(ends=-_HOUR)


@dataclass(frozen=True)
class Certificate:
    """Files in PEM: a leaf with its key, and the root that a peer is to be measured by."""

    chain: Path
    key: Path
    root: Path


class Authority:
    """A root, and what it signs."""

    def __init__(
        self,
        folder: Path,
        name: str = "cluster.local",
        stolen: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None = None,
    ) -> None:
        """Files are put into `folder`, which is made. stolen: name and key of another root, to sign with."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        own = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name)])
        self._name, self._key = stolen or (own, ec.generate_private_key(ec.SECP256R1()))
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

    def sign(self, request: str, terms: Terms = USUAL) -> str:
        """The certificate (PEM) that a PKCS#10 request (PEM) asks for."""
        csr = x509.load_pem_x509_csr(request.encode())
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = csr.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return self._leaf(key, names, terms)

    def issue(self, identity: str, terms: Terms = USUAL) -> Certificate:
        """A key and a certificate for it: a SPIFFE ID, or the DNS name of a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        kind = x509.UniformResourceIdentifier if "://" in identity else x509.DNSName
        names = x509.SubjectAlternativeName([kind(identity)])
        self._issued += 1
        chain, secret = (self._folder / f"{self._issued}.{end}" for end in ("crt", "key"))
        chain.write_text(self._leaf(key.public_key(), names, terms))
        form, no_password = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        secret.write_bytes(key.private_bytes(_PEM, form, no_password))
        return Certificate(chain, secret, self.root_file)

    def crl(self, *certificates: str) -> bytes:
        """A revocation list (PEM) of these certificates (PEM)."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = (
            builder.last_update(now).next_update(now + _HOUR).add_extension(x509.CRLNumber(1), critical=False)
        )
        for pem in certificates:
            number = x509.load_pem_x509_certificate(pem.encode()).serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)

    def _leaf(self, key: ec.EllipticCurvePublicKey, names: x509.SubjectAlternativeName, terms: Terms) -> str:
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + terms.begins)
            .not_valid_after(now + terms.ends)
            .add_extension(names, critical=True)
            .add_extension(x509.ExtendedKeyUsage(terms.usage), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(_PEM).decode()
