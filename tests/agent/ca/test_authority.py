"""What is signed: by what it holds, and by what openssl says of it."""

import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.ca.authority import Authority
from agent.ca.directory import open_root
from agent.ca.errors import Refusal
from agent.ca.spiffe import SpiffeId
from tests.support.authority import WEB, csr

IDENTITY = SpiffeId.parse(WEB)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    root = open_root(tmp_path, "cluster.local")
    return Authority(lambda: root)


def lifetime(authority: Authority, validity: int) -> float:
    """Seconds for which a certificate is good from now on."""
    issued = authority.issue(csr(), IDENTITY, validity)
    return (issued.not_after - datetime.now(UTC)).total_seconds()


def test_openssl_takes_it_for_server_and_client(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "leaf.pem").write_text(authority.issue(csr(), IDENTITY).pem)
    for purpose in ("sslserver", "sslclient"):
        command = [
            "openssl",
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            "root.pem",
            "leaf.pem",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stdout == "leaf.pem: OK\n", done.stderr


def test_it_names_the_identity_and_nothing_else(authority: Authority) -> None:
    leaf = x509.load_pem_x509_certificate(authority.issue(csr(), IDENTITY).pem.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert list(names.value) == [x509.UniformResourceIdentifier(WEB)]
    assert leaf.version is x509.Version.v3
    assert not leaf.subject.rdns
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert timedelta(minutes=1) < datetime.now(UTC) - leaf.not_valid_before_utc < timedelta(minutes=3)


def test_serial_numbers_differ(authority: Authority) -> None:
    assert len({authority.issue(csr(), IDENTITY).serial for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("asked", "given"), [(0, 86400), (3600, 3600), (10, 300), (10**9, 86400), (2**63 - 1, 86400)]
)
def test_validity_is_honoured_within_bounds(authority: Authority, asked: int, given: int) -> None:
    assert lifetime(authority, asked) == pytest.approx(given, abs=5)


def test_a_negative_validity_is_refused(authority: Authority) -> None:
    with pytest.raises(Refusal, match="must be 0 or more"):
        authority.issue(csr(), IDENTITY, -1)


def test_an_authority_of_short_certificates_gives_those(tmp_path: Path) -> None:
    root = open_root(tmp_path, "cluster.local")
    short = Authority(lambda: root, timedelta(seconds=30))
    assert lifetime(short, 0) == pytest.approx(30, abs=5)
    assert lifetime(short, 3600) == pytest.approx(30, abs=5)


def test_keys_of_rsa_are_signed_too(authority: Authority) -> None:
    request = csr(key=rsa.generate_private_key(65537, 2048))
    leaf = x509.load_pem_x509_certificate(authority.issue(request, IDENTITY).pem.encode())
    assert isinstance(leaf.public_key(), rsa.RSAPublicKey)


def test_the_serving_certificate_is_for_servers_only(authority: Authority) -> None:
    _, issued = authority.serving(["localhost"], [ip_address("127.0.0.1")])
    leaf = x509.load_pem_x509_certificate(issued.pem.encode())
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH]
