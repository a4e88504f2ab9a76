"""What signs: a CA's certificate and key, and what leads from it to a root."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.ca import chain, keys
from agent.ca.errors import AuthorityError


class Material(NamedTuple):
    """What a signer is made of, in PEM, under the names that the files have in Istio's Secrets."""

    ca_cert: str
    ca_key: str
    cert_chain: str  # intermediates, in any order; may hold ca_cert and roots again
    root_cert: str  # one root or several


@dataclass(frozen=True, eq=False)
class Signer:
    """A checked `Material`; whether it is valid at a time is another question, `chain.check_time`.

    path: certificates from the signing one to its root. bundle: the roots that peers are to trust, PEM.
    """

    key: keys.PrivateKey
    path: tuple[x509.Certificate, ...]
    bundle: str

    @classmethod
    def of(cls, material: Material) -> Self:
        """Raises AuthorityError, with the remedy, for anything that peers would not accept later on."""
        key = _key(material.ca_key)
        certificate, *_ = _certificates(material.ca_cert, "ca-cert.pem")
        if certificate.public_key() != key.public_key():
            raise AuthorityError(
                "ca-key.pem is not the key of ca-cert.pem: put in the one that belongs to it"
            )
        intermediates = (
            _certificates(material.cert_chain, "cert-chain.pem") if material.cert_chain.strip() else []
        )
        roots = _certificates(material.root_cert, "root-cert.pem")
        return cls(key, chain.to_root(certificate, intermediates, roots), bundle(roots))

    def trusting(self, roots: str) -> Self:
        """The same signer, with these roots for peers to trust."""
        return replace(self, bundle=roots)

    @property
    def certificate(self) -> x509.Certificate:
        """The one that signs."""
        return self.path[0]

    @property
    def root(self) -> x509.Certificate:
        """Vouches for all that is signed."""
        return self.path[-1]

    @property
    def key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """Names the key in what it signs (RFC 5280 section 4.2.1.1)."""
        own = chain.extension(self.certificate, x509.SubjectKeyIdentifier)
        if own is None:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)

    @property
    def intermediates(self) -> list[str]:
        """What goes with a leaf, PEM: all of the path but the root, which peers have."""
        return [pem(one) for one in self.path[:-1]]

    @property
    def not_after(self) -> datetime:
        """When the first of the path ends, and with it everything that was signed."""
        return min(one.not_valid_after_utc for one in self.path)


def tidy(material: Material) -> Material:
    """The same in one form, without what nobody needs, so that two can be compared. Raises AuthorityError."""
    signer = Signer.of(material)
    return Material(
        pem(signer.certificate), material.ca_key, "".join(signer.intermediates[1:]), signer.bundle
    )


def pem(certificate: x509.Certificate) -> str:
    """As text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def bundle(certificates: chain.Certificates) -> str:
    """PEM texts behind each other, each certificate once."""
    return "".join(pem(one) for one in dict.fromkeys(certificates))


def named(certificate: x509.Certificate) -> str:
    """Which one, for people."""
    subject, end = certificate.subject.rfc4514_string(), certificate.not_valid_after_utc
    return f"{subject}, serial {certificate.serial_number:x}, until {end:%Y-%m-%d %H:%M} UTC"


def roots_of(text: str) -> list[x509.Certificate]:
    """The certificates of a bundle. Raises AuthorityError."""
    return _certificates(text, "root-cert.pem")


def _certificates(text: str, name: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise AuthorityError(f"{name} holds no certificates in PEM: {error}") from error


def _key(text: str) -> keys.PrivateKey:
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError) as error:
        raise AuthorityError(f"ca-key.pem holds no private key in PEM without a password: {error}") from error
    if not isinstance(key, keys.PrivateKey) or not keys.is_strong(key):
        raise AuthorityError(f"ca-key.pem must be {keys.KINDS}")
    return key
