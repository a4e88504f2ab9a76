"""Which keys are good enough, ours and those of others."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
KINDS = "P-256, P-384 or RSA of 2048 to 8192 bits"

_CURVES = ("secp256r1", "secp384r1")
_RSA_BITS = range(2048, 8193)  # above: only good for keeping the authority busy


def is_strong(key: object) -> bool:
    """Whether a key, public or private, is one of `KINDS`: what all of the mesh's TLS stacks can verify."""
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return key.curve.name in _CURVES
    return isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey) and key.key_size in _RSA_BITS


def make() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def to_pem(key: PrivateKey) -> bytes:
    """PKCS#8, without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
