"""The root of an authority without a cluster: a key and a certificate on disk, made at the first start."""

from collections.abc import Set
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.ca import keys, revocation
from agent.ca.clock import system_time
from agent.ca.errors import AuthorityError
from agent.ca.files import locked, write_atomically
from agent.ca.root import self_signed
from agent.ca.signer import Signer, pem


def open_root(directory: Path, trust_domain: str) -> Signer:
    """Read `root.pem` and `root.key` below `directory`, or make them: P-256, self-signed, 10 years.

    `root.pem` may hold more roots beside the one of the key: peers are told to trust all of them, which
    is how a root is replaced. Raises AuthorityError.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(directory):
            if not (directory / "root.pem").exists():
                _make(directory, trust_domain)
        return _read(directory)
    except OSError as error:
        raise AuthorityError(f"the root in {directory}: {error}") from error


def read_root(directory: Path) -> Signer:
    """The root that is there. Raises AuthorityError."""
    try:
        return _read(directory)
    except OSError as error:
        raise AuthorityError(f"the root in {directory}: {error}") from error


def revoke(directory: Path, signer: Signer, serials: Set[int]) -> Path:
    """Put certificates of this root on its list, `ca-crl.pem`, which tunnels read. Raises AuthorityError."""
    path = directory / revocation.FILE
    try:
        with locked(directory):
            text = path.read_text() if path.exists() else ""
            revoked = revocation.revoke(signer, text, serials, system_time())
            write_atomically(path, revoked.encode(), 0o644)
    except OSError as error:
        raise AuthorityError(f"{path}: {error}") from error
    return path


def _read(directory: Path) -> Signer:
    key = _read_key(directory / "root.key")
    path = directory / "root.pem"
    text = path.read_text(encoding="ascii", errors="replace")
    try:
        certificates = x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise AuthorityError(f"{path} holds no certificates in PEM: {error}") from error
    ours = [found for found in certificates if found.public_key() == key.public_key()]
    if not ours:
        raise AuthorityError(f"{path} has no certificate for the key in root.key: put back the one that fits")
    begin, end, now = ours[0].not_valid_before_utc, ours[0].not_valid_after_utc, system_time()
    if end <= now:
        raise AuthorityError(f"{path} ended on {end:%Y-%m-%d}: move it and root.key away for a new root")
    if now < begin:
        raise AuthorityError(f"{path} begins on {begin:%Y-%m-%d %H:%M} UTC: set this machine's clock right")
    return Signer(key, (ours[0],), text)


def _read_key(path: Path) -> keys.PrivateKey:
    if path.stat().st_mode & 0o077:
        raise AuthorityError(f"{path} can be read by others: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise AuthorityError(f"{path} holds no private key in PEM without a password: {error}") from error
    if not isinstance(key, keys.PrivateKey) or not keys.is_strong(key):
        raise AuthorityError(f"{path} must be {keys.KINDS}")
    return key


def _make(directory: Path, trust_domain: str) -> None:
    """The key first: when this is cut short, the next start finishes it with the same key."""
    path = directory / "root.key"
    if not path.exists():
        write_atomically(path, keys.to_pem(keys.make()), 0o600)
    certificate = self_signed(_read_key(path), trust_domain, system_time())
    write_atomically(directory / "root.pem", pem(certificate).encode(), 0o644)
