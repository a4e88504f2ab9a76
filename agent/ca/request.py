"""What a certificate request must be before anything is signed."""

from cryptography import x509

from agent.ca.errors import Reason, Refusal
from agent.ca.keys import KINDS, PublicKey, is_strong
from agent.ca.spiffe import SpiffeId


def check(pem: str, identity: SpiffeId) -> PublicKey:
    """The public key of a PKCS#10 request (RFC 2986) whose one name is `identity`.

    The request proves possession of the key by its signature. Everything else that it asks for is ignored,
    but a name beyond the identity is refused, so that nobody believes to have got it. Raises Refusal.
    """
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
        signed = request.is_signature_valid
        names = _names(request)
    except Exception as error:  # a parser's errors for hostile input are not all ValueError
        raise Refusal(Reason.MALFORMED_REQUEST, "the csr is not a PKCS#10 request in PEM") from error
    if not is_strong(key):
        raise Refusal(Reason.WEAK_KEY, f"the csr's key must be {KINDS}")
    if not signed:
        raise Refusal(Reason.BAD_SIGNATURE, "the csr is not signed by its own key")
    if names != [str(identity)]:
        raise Refusal(Reason.OTHER_NAME, f"the csr must name {identity} and nothing else, as its one URI SAN")
    assert isinstance(key, PublicKey)
    return key


def _names(request: x509.CertificateSigningRequest) -> list[str | None]:
    """The alternative names; None for one that is no URI."""
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.value if isinstance(name, x509.UniformResourceIdentifier) else None for name in names]
