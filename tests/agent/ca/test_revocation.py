"""Lists of what is revoked: which are taken, and ours as openssl reads them."""

import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from agent.ca import revocation, root
from agent.ca.clock import system_time
from agent.ca.errors import AuthorityError
from agent.ca.signer import Signer, pem
from tests.support.plugged import DAY, Authority, authority, material

NOW = system_time().replace(microsecond=0)
ROOT = authority("root")
MESH = authority("mesh", ROOT)
ISSUERS = [MESH.certificate, ROOT.certificate]
Builder = x509.CertificateRevocationListBuilder


def builder(issuer: Authority, serials: tuple[int, ...] = (7,), begins: timedelta = -DAY) -> Builder:
    made = Builder().issuer_name(issuer.certificate.subject).last_update(NOW + begins)
    made = made.next_update(NOW + 30 * DAY).add_extension(x509.CRLNumber(1), critical=False)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW).build()
        made = made.add_revoked_certificate(entry)
    return made


def crl(issuer: Authority, key: Authority | None = None, **how: object) -> str:
    """A list in PEM; key: whose signs it, the issuer's unless given."""
    return revocation.pem([builder(issuer, **how).sign((key or issuer).key, hashes.SHA256())])  # type: ignore[arg-type]


def point(**special: object) -> x509.IssuingDistributionPoint:
    names = [x509.UniformResourceIdentifier("http://crl")]
    given: dict[str, object] = {"full_name": names, "relative_name": None, "only_some_reasons": None}
    for kind in ("user", "ca", "attribute"):
        given[f"only_contains_{kind}_certs"] = False
    given["indirect_crl"] = False
    return x509.IssuingDistributionPoint(**(given | special))  # type: ignore[arg-type]


def with_extension(value: x509.ExtensionType, critical: bool = True) -> str:
    signed = builder(MESH).add_extension(value, critical).sign(MESH.key, hashes.SHA256())
    return revocation.pem([signed])


def without_number() -> str:
    made = Builder().issuer_name(MESH.certificate.subject).last_update(NOW).next_update(NOW + DAY)
    return revocation.pem([made.sign(MESH.key, hashes.SHA256())])


GOOD = crl(MESH)


def test_lists_of_the_path_are_taken_and_others_left_out() -> None:
    newer, stranger = crl(MESH, serials=(8,), begins=timedelta()), crl(authority("stranger"))
    text = f"a comment\n{GOOD}between\n{stranger}{crl(ROOT, serials=(9,))}{newer}"
    found = revocation.usable(text, ISSUERS)
    assert revocation.serials(found) == {7, 8, 9}
    assert found.startswith(newer), "the newest first, for libraries use the first one of an issuer"
    assert revocation.usable(found, ISSUERS) == found
    assert revocation.usable("", ISSUERS) == ""
    assert revocation.usable(with_extension(point(only_contains_user_certs=True)), ISSUERS)
    assert revocation.usable(with_extension(x509.FreshestCRL([]), critical=False), ISSUERS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense", "holds no X.509 CRLs in PEM"),
        (GOOD + "-----BEGIN X509 CRL-----\nAAAA\n", "or not the whole of one"),
        (GOOD[:60] + "AAAA" + GOOD[64:], "holds a CRL that cannot be read"),
        (crl(MESH, key=ROOT), "the CRL of CN=mesh is not signed with that CA's key"),
        (with_extension(x509.DeltaCRLIndicator(1)), "CN=mesh is a delta CRL: issue a whole one"),
        (with_extension(point(indirect_crl=True)), "has an issuingDistributionPoint"),
        (with_extension(point(full_name=None, only_contains_user_certs=True)), "issuingDistributionPoint"),
        (with_extension(x509.FreshestCRL([])), "a critical extension that tunnels do not know"),
        (without_number(), "is no list of version 2"),
    ],
)
def test_what_tunnels_could_not_use_is_refused(text: str, why: str) -> None:
    with pytest.raises(AuthorityError, match=why):
        revocation.usable(text, ISSUERS)


def test_a_ca_that_may_not_sign_lists_is_named() -> None:
    issuer = authority("weak", ROOT, lists=False)
    with pytest.raises(AuthorityError, match="it needs keyUsage cRLSign"):
        revocation.usable(crl(issuer), [issuer.certificate])


def test_cas_of_one_name_are_told_apart_by_their_keys() -> None:
    old, new = authority("mesh", ROOT), authority("mesh", ROOT)
    signers = [Signer.of(material(one, ROOT)) for one in (old, new)]
    texts = [revocation.revoke(signer, "", {number}, NOW) for number, signer in enumerate(signers, 1)]
    both = [old.certificate, new.certificate]
    assert revocation.serials(revocation.usable("".join(texts), both)) == {1, 2}
    assert revocation.usable("".join(texts), [new.certificate]) == texts[1], "the old one is gone"
    assert revocation.usable(crl(new), both), "it does not say by which key"
    made = {Signer.of(root.make("cluster.local", NOW)).certificate.subject for _ in range(2)}
    assert len(made) == 2, "our own roots have names of their own, for who does not look at keys"


@pytest.mark.parametrize("make", [lambda: root.make("cluster.local", NOW), lambda: material(MESH, ROOT)])
def test_our_lists_are_good_for_openssl(make: Callable[[], object], tmp_path: Path) -> None:
    signer = Signer.of(make())  # type: ignore[arg-type]
    text = revocation.revoke(signer, "", {0xABCDEF, 5}, NOW)
    assert revocation.usable(text, signer.path) == text
    (tmp_path / "crl").write_text(text)
    (tmp_path / "ca").write_text(pem(signer.certificate))
    command = ["openssl", "crl", "-in", "crl", "-CAfile", "ca", "-noout", "-text", "-verify"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "verify OK" in done.stderr
    assert "Serial Number: ABCDEF" in done.stdout


def test_a_list_grows_and_forgets_what_has_long_ended() -> None:
    signer, others = Signer.of(material(MESH, ROOT)), crl(ROOT)
    first = revocation.revoke(signer, others, {1}, NOW)
    both = revocation.revoke(signer, first, {2}, NOW + DAY)
    assert revocation.serials(revocation.of([MESH.certificate], both)) == {1, 2}
    assert both.endswith(others)
    assert not revocation.is_due(signer, both, NOW + DAY)
    assert revocation.is_due(signer, both, NOW + 2 * DAY)
    later = revocation.revoke(signer, both, (), NOW + 2 * DAY)
    assert revocation.serials(revocation.of([MESH.certificate], later)) == {2}
    empty = revocation.of([MESH.certificate], revocation.revoke(signer, later, (), NOW + 4 * DAY))
    assert (len(revocation.lists(empty)), revocation.serials(empty)) == (1, set())
    assert revocation.usable(empty, ISSUERS) == empty
    assert not revocation.is_due(signer, empty, NOW + 18 * DAY)
    assert revocation.is_due(signer, empty, NOW + 20 * DAY), "well before others take it for old"
