"""Requests that are not signed, each by its reason."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.ca.errors import Reason, Refusal
from agent.ca.request import check
from agent.ca.spiffe import SpiffeId
from tests.support.authority import DB, WEB, csr

IDENTITY = SpiffeId.parse(WEB)


def spoilt(request: str) -> str:
    """The same request with its last byte, a part of the signature, changed."""
    body = "".join(request.splitlines()[1:-1])
    data = bytearray(base64.b64decode(body))
    data[-1] ^= 1
    return (
        "-----BEGIN CERTIFICATE REQUEST-----\n"
        + base64.encodebytes(bytes(data)).decode()
        + "-----END CERTIFICATE REQUEST-----\n"
    )


def refused(request: str) -> Reason:
    with pytest.raises(Refusal) as caught:
        check(request, IDENTITY)
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_a_good_request_gives_its_key(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    assert check(csr(key=key), IDENTITY) == key.public_key()


@pytest.mark.parametrize("text", ["", "nonsense", csr()[:200], csr().replace("M", "\u00e4")])
def test_what_is_no_request(text: str) -> None:
    assert refused(text) is Reason.MALFORMED_REQUEST


def test_weak_keys() -> None:
    assert refused(csr(key=rsa.generate_private_key(65537, 1024))) is Reason.WEAK_KEY
    assert refused(csr(key=ec.generate_private_key(ec.SECP224R1()))) is Reason.WEAK_KEY


def test_a_request_that_its_key_did_not_sign() -> None:
    assert refused(spoilt(csr())) is Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    "names",
    [[], [DB], [WEB, DB], [WEB, x509.DNSName("kubernetes.default")], [x509.DNSName("a")], [WEB + "/"]],
)
def test_names_beside_the_identity(names: list[str | x509.GeneralName]) -> None:
    assert refused(csr(names)) is Reason.OTHER_NAME
