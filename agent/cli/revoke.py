"""`warren ca revoke`: certificates that are to count no more."""

import re
import time
from collections.abc import Iterable, Set
from pathlib import Path

import click
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from agent.ca import directory as folder
from agent.ca.errors import AuthorityError
from agent.ca.revocation import serials
from agent.ca.secret import PLUGGED_IN, Secrets
from agent.ca.signer import Signer
from agent.cli.command import Command, option
from agent.cli.rotation import LOOK, TAKEN_UP, in_cluster, stored_in
from agent.cli.types import FOLDER
from agent.kube.client import Client

_SERIAL = re.compile(r"(?:0x)?((?:[0-9a-f]{1,2}:)*[0-9a-f]+)", re.IGNORECASE)


@click.command(cls=Command)
@in_cluster
@option("--dir", "directory", envvar="WARREN_DIR", type=FOLDER,
        help="folder of root.pem and root.key, without a cluster")  # fmt: skip
@click.argument("certificates", nargs=-1, required=True, metavar="SERIAL|FILE...")
def revoke(
    kubeconfig: Path | None, namespace: str, directory: Path | None, certificates: tuple[str, ...]
) -> None:
    """End certificates before their time: tunnels let nobody in with them, and close what is open.

    Each is named by its serial number, in hexadecimal as the authority logs it, or by a file with it in PEM.
    """
    if directory:
        signer = folder.read_root(directory)
        path = folder.revoke(directory, signer, _serials(certificates, signer))
        click.echo(f"revoked: see {path}")
        return
    secrets = Secrets(Client.load(kubeconfig), namespace)
    before = stored_in(secrets, namespace)
    if secrets.plugged_in():
        raise AuthorityError(
            f"the CA is plugged in: put its CRL into Secret {namespace}/{PLUGGED_IN}, as ca-crl.pem"
        )
    wanted = _serials(certificates, Signer.of(before.state.signing))
    if not secrets.request_revocation(before, wanted):
        raise AuthorityError("the authority's Secret was changed just now: try again")
    _await(secrets, namespace, wanted)
    click.echo("revoked; nodes hear of it by the ConfigMap istio-ca-crl, within a minute or two")


def _await(secrets: Secrets, namespace: str, wanted: Set[int]) -> None:
    deadline = time.monotonic() + TAKEN_UP
    while not wanted <= serials((now := stored_in(secrets, namespace)).state.revoked):
        if not now.revoke:
            raise AuthorityError("nothing was revoked: the log of warren-ca says why")
        if time.monotonic() > deadline:
            raise AuthorityError("no authority took it up yet, the next one to run will: does warren-ca run?")
        time.sleep(LOOK)


def _serials(certificates: Iterable[str], signer: Signer) -> Set[int]:
    return {_serial(text, signer) for text in certificates}


def _serial(text: str, signer: Signer) -> int:
    """Raises AuthorityError."""
    if match := _SERIAL.fullmatch(text):
        return int(match[1].replace(":", ""), 16)
    try:
        certificate = x509.load_pem_x509_certificate(Path(text).read_bytes())
        certificate.verify_directly_issued_by(signer.certificate)
    except OSError as error:
        raise AuthorityError(f"{text!r} is no serial number, and no file: {error.strerror}") from error
    except (ValueError, TypeError, InvalidSignature) as error:
        raise AuthorityError(f"{text} holds no certificate of the CA that signs now: {error}") from error
    return certificate.serial_number
