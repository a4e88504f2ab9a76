"""`warren ca rotate` and `warren ca status`: what an operator does about the root."""

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from agent.ca.errors import AuthorityError
from agent.ca.rotation import Phase
from agent.ca.secret import OURS, PLUGGED_IN, Secrets, Stored
from agent.ca.signer import Signer, named, roots_of
from agent.cli.command import Command, option
from agent.cli.types import READABLE_FILE
from agent.kube.client import Client

_TAKEN_UP = 60.0  # seconds for a replica to see that a rotation is wanted
_LOOK = 1.0  # seconds between two looks
_kubeconfig = option(
    "--kubeconfig", type=READABLE_FILE, help="[default: in a pod its account, else kubectl's]"
)
_namespace = option("--namespace", default="warren-system", help="of the authority")


@click.command(cls=Command)
@_kubeconfig
@_namespace
def rotate(kubeconfig: Path | None, namespace: str) -> None:
    """Put a new root in the place of the one that signs. No connection notices.

    Both are trusted until the last certificate by the old one has ended; `warren ca status` says where it is.
    """
    secrets = Secrets(Client.load(kubeconfig), namespace)
    before = _read(secrets, namespace)
    if secrets.plugged_in() is not None:
        raise AuthorityError(
            f"the CA is plugged in: replace what Secret {namespace}/{PLUGGED_IN} holds, for a rotation"
        )
    if before.state.phase is not Phase.STEADY:
        raise AuthorityError(f"a rotation is under way: {_phase(before)}; wait for its end")
    if not secrets.request_rotation(before, datetime.now(UTC).isoformat()):
        raise AuthorityError(f"Secret {namespace}/{OURS} was changed just now: try again")
    click.echo("asked for a new root ...")
    deadline = time.monotonic() + _TAKEN_UP
    while (now := _read(secrets, namespace)).state.phase is Phase.STEADY:
        if time.monotonic() > deadline:
            raise AuthorityError("no authority took it up yet, the next one to run will: does warren-ca run?")
        time.sleep(_LOOK)
    _show(now)


@click.command(cls=Command)
@_kubeconfig
@_namespace
def status(kubeconfig: Path | None, namespace: str) -> None:
    """Say which root signs, which are trusted, and where a rotation is."""
    secrets = Secrets(Client.load(kubeconfig), namespace)
    _show(_read(secrets, namespace))
    try:
        if secrets.plugged_in():
            click.echo("plugged in: by Secret cacerts")
    except AuthorityError as error:
        click.echo(f"plugged in: {error}")


def _read(secrets: Secrets, namespace: str) -> Stored:
    stored = secrets.read()
    if stored is None:
        raise AuthorityError(f"there is no Secret {namespace}/{OURS}: warren-ca makes it at its first start")
    return stored


def _show(stored: Stored) -> None:
    state = stored.state
    signers = {"signs": state.signing} | ({"signs next": state.successor} if state.successor else {})
    for what, material in signers.items():
        click.echo(f"{what + ':':<12}{named(Signer.of(material).certificate)}")
    for root in roots_of(state.signing.root_cert):
        click.echo(f"{'trusted:':<12}{named(root)}")
    click.echo(f"{'rotation:':<12}{_phase(stored)}")


def _phase(stored: Stored) -> str:
    state = stored.state
    if state.until is None:
        return "steady, a new root is asked for" if stored.requested else "steady"
    then = "the new root signs" if state.phase is Phase.ANNOUNCED else "the old root is trusted no more"
    since, until = f"{state.since:%Y-%m-%d %H:%M}", f"{state.until:%Y-%m-%d %H:%M}"
    return f"{state.phase.value} since {since} UTC; {then} at {until} UTC"
