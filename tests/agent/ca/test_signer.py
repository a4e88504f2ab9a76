"""What may sign: keys and chains as organisations have them, and each fault by its name and remedy."""

import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.ca import root
from agent.ca.authority import Authority
from agent.ca.chain import check_time
from agent.ca.clock import system_time
from agent.ca.errors import AuthorityError, Reason, Refusal
from agent.ca.keys import PrivateKey
from agent.ca.signer import Material, Signer, tidy
from agent.ca.spiffe import SpiffeId
from tests.support.authority import WEB, csr
from tests.support.plugged import DAY, authority, material

ROOT = authority("root")
MIDDLE = authority("middle", ROOT)
MESH = authority("mesh", MIDDLE)
GOOD = material(MESH, MIDDLE, ROOT)


def test_a_root_of_our_own_is_good() -> None:
    signer = Signer.of(root.make("cluster.local", system_time()))
    assert signer.certificate == signer.root
    assert signer.intermediates == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: rsa.generate_private_key(65537, 2048),
    ],
)
def test_what_it_signs_is_good_for_openssl_through_all_intermediates(
    make: Callable[[], PrivateKey], tmp_path: Path
) -> None:
    mesh = authority("mesh", MIDDLE, key=make())
    signer = Signer.of(material(mesh, MIDDLE, ROOT))
    issued = Authority(lambda: signer).issue(csr(), SpiffeId.parse(WEB))
    leaf, *intermediates = issued.chain
    assert intermediates == [mesh.pem, MIDDLE.pem]
    for name, text in {"leaf": leaf, "chain": "".join(intermediates), "root": signer.bundle}.items():
        (tmp_path / name).write_text(text)
    command = ["openssl", "verify", "-purpose", "sslclient", "-CAfile", "root", "-untrusted", "chain", "leaf"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "leaf: OK\n", done.stderr


def test_the_chain_may_have_more_than_is_needed_in_any_order() -> None:
    chain = ROOT.pem + authority("stranger").pem + MIDDLE.pem + MESH.pem
    assert tidy(GOOD._replace(cert_chain=chain)) == tidy(GOOD)
    assert tidy(GOOD).cert_chain == MIDDLE.pem


def test_a_leaf_ends_with_the_first_certificate_above_it() -> None:
    short = authority("middle", ROOT, ends=timedelta(hours=2))
    signer = Signer.of(material(authority("mesh", short), short, ROOT))
    issued = Authority(lambda: signer).issue(csr(), SpiffeId.parse(WEB))
    assert issued.not_after == short.certificate.not_valid_after_utc


def test_nothing_is_signed_after_its_end() -> None:
    ended = x509.load_pem_x509_certificate(authority("mesh", ends=timedelta(hours=-1)).pem.encode())
    signer = Signer(MESH.key, (ended,), "")
    with pytest.raises(Refusal) as caught:
        Authority(lambda: signer).issue(csr(), SpiffeId.parse(WEB))
    assert caught.value.reason is Reason.ROOT_UNKNOWN


def below(**special: object) -> Material:
    """A CA below an intermediate that has something special."""
    middle = authority("middle", ROOT, **special)
    return material(authority("mesh", middle), middle, ROOT)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (GOOD._replace(ca_key="nonsense"), "ca-key.pem holds no private key in PEM without a password"),
        (
            GOOD._replace(ca_key=root.make("x", system_time()).ca_key),
            "ca-key.pem is not the key of ca-cert.pem",
        ),
        (
            root.make("x", system_time())._replace(ca_cert="nonsense"),
            "ca-cert.pem holds no certificates in PEM",
        ),
        (GOOD._replace(cert_chain="nonsense"), "cert-chain.pem holds no certificates in PEM"),
        (GOOD._replace(root_cert=""), "root-cert.pem holds no certificates in PEM"),
        (GOOD._replace(cert_chain=""), "the certificate of CN=mesh is not issued by a root of root-cert.pem"),
        (
            GOOD._replace(root_cert=authority("root").pem),
            "the certificate of CN=middle is not issued by a root of root-cert.pem",
        ),
        (below(ca=False), "the certificate of CN=middle is no CA: it needs basicConstraints CA:TRUE"),
        (below(signs=False), "the certificate of CN=middle may not sign: it needs keyUsage keyCertSign"),
        (below(path_length=0), "the certificate of CN=middle allows 0 CAs below it, and there are 1"),
        (
            material(authority("mesh", key=ec.generate_private_key(ec.SECP521R1()))),
            "ca-key.pem must be P-256, P-384 or RSA of 2048 to 8192 bits",
        ),
    ],
)
def test_what_peers_would_refuse_is_named(bad: Material, text: str) -> None:
    with pytest.raises(AuthorityError, match=text) as caught:
        Signer.of(bad)
    assert "\n" not in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)


@pytest.mark.parametrize("special", [{"ends": -DAY / 2}, {"begins": DAY}])
def test_each_of_the_path_has_to_be_valid_at_the_time(special: dict[str, timedelta]) -> None:
    path = Signer.of(below(**special)).path
    with pytest.raises(AuthorityError, match=r"the certificate of CN=middle is valid from .*: renew it"):
        check_time(path, system_time())
