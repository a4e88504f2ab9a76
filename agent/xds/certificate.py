"""The certificate with which configuration is served over TCP, under a root of its own."""

import datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.errors import naming
from agent.model.schema.objects import IPAddress

# An agent may run for years, and only a restart makes a new leaf.
_LIFETIME = datetime.timedelta(days=3650)
_SKEW = datetime.timedelta(hours=1)  # by which a client's clock may be behind
_ALWAYS = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


def serving_certificate(directory: Path, address: IPAddress) -> tuple[bytes, bytes]:
    """A new P-256 key, and its certificate for `localhost` and `address`; both in PEM.

    The root is `directory`/xds-root.pem. It and its key (xds-root.key, mode 0600) are made once and kept, so
    that clients that have read the root go on trusting an agent that was started again. Raises OSError.
    """
    root, root_key = _root(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    addresses = dict.fromkeys((*_ALWAYS, address))
    names = [x509.DNSName("localhost"), *(x509.IPAddress(each) for each in addresses)]
    leaf = (
        _builder("warren agent", root.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return _pem(key), leaf.public_bytes(serialization.Encoding.PEM)


def _root(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate, secret = directory / "xds-root.pem", directory / "xds-root.key"
    try:
        root = x509.load_pem_x509_certificate(certificate.read_bytes())
        key = serialization.load_pem_private_key(secret.read_bytes(), None)
        now = datetime.datetime.now(datetime.UTC)
        if (
            isinstance(key, ec.EllipticCurvePrivateKey)
            and root.public_key() == key.public_key()
            and root.not_valid_after_utc > now + _LIFETIME / 2
        ):
            return root, key
    except (FileNotFoundError, ValueError):
        pass  # there is none yet, or it is spoilt
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "warren agent's root")])
    root = (
        _builder("warren agent's root", name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(secret, _pem(key), 0o600)
    _write(certificate, root.public_bytes(serialization.Encoding.PEM), 0o644)
    return root, key


def _builder(
    subject: str, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFETIME)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """The whole file or the former one, never a part."""
    draft = path.with_name(path.name + ".new")
    with naming(path):
        draft.unlink(missing_ok=True)
        draft.touch(mode, exist_ok=False)
        draft.write_bytes(content)
        draft.replace(path)
