"""`warren ca rotate` and `warren ca status`: what an operator does about the root."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from agent.ca.disputes import told
from agent.ca.errors import AuthorityError
from agent.ca.revocation import lists, usable
from agent.ca.rotation import Phase
from agent.ca.secret import OURS, PLUGGED_IN, Secrets, Stored
from agent.ca.signer import Signer, named, roots_of
from agent.cli.command import Command, option
from agent.cli.types import READABLE_FILE
from agent.kube.client import Client

TAKEN_UP = 60.0  # seconds for a replica to see that something is wanted
LOOK = 1.0  # seconds between two looks
F = TypeVar("F", bound=Callable[..., Any])


def in_cluster(command: F) -> F:
    """Options by which a command finds the authority."""
    account = "[default: in a pod its account, else kubectl's]"
    with_namespace = option("--namespace", default="warren-system", help="of the authority")(command)
    return option("--kubeconfig", type=READABLE_FILE, help=account)(with_namespace)


@click.command(cls=Command)
@in_cluster
def rotate(kubeconfig: Path | None, namespace: str) -> None:
    """Put a new root in the place of the one that signs. No connection notices.

    Both are trusted until the last certificate by the old one has ended; `warren ca status` says where it is.
    """
    secrets = Secrets(Client.load(kubeconfig), namespace)
    before = stored_in(secrets, namespace)
    if secrets.plugged_in() is not None:
        raise AuthorityError(
            f"the CA is plugged in: replace what Secret {namespace}/{PLUGGED_IN} holds, for a rotation"
        )
    if before.state.phase is not Phase.STEADY:
        raise AuthorityError(f"a rotation is under way: {_phase(before)}; wait for its end")
    if waits := _disputes(secrets, before):
        raise AuthorityError(waits)
    if not secrets.request_rotation(before):
        raise AuthorityError(f"Secret {namespace}/{OURS} was changed just now: try again")
    click.echo("asked for a new root ...")
    deadline = time.monotonic() + TAKEN_UP
    while (now := stored_in(secrets, namespace)).state.phase is Phase.STEADY:
        if time.monotonic() > deadline:
            raise AuthorityError("no authority took it up yet, the next one to run will: does warren-ca run?")
        time.sleep(LOOK)
    _show(now)


@click.command(cls=Command)
@in_cluster
def status(kubeconfig: Path | None, namespace: str) -> None:
    """Say which root signs, which are trusted, where a rotation is, and what is wrong."""
    secrets = Secrets(Client.load(kubeconfig), namespace)
    stored = stored_in(secrets, namespace)
    _show(stored)
    if waits := _disputes(secrets, stored):
        click.echo(f"{'clocks:':<12}{waits}")
    try:
        if plugged := secrets.plugged_in():
            click.echo("plugged in: by Secret cacerts")
            usable(plugged.crl, [*stored.state.issuers, *Signer.of(plugged.material).path])
    except AuthorityError as error:
        click.echo(f"plugged in: {error}")


def stored_in(secrets: Secrets, namespace: str) -> Stored:
    """What replicas share. Raises AuthorityError when there is nothing yet."""
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
    for crl in lists(state.revoked + state.crl):
        until = f"{crl.next_update_utc:%Y-%m-%d %H:%M} UTC" if crl.next_update_utc else "further notice"
        click.echo(f"{'revoked:':<12}{len(crl)} by {crl.issuer.rfc4514_string()}, list good until {until}")


def _disputes(secrets: Secrets, stored: Stored) -> str:
    return told(stored.disputes, secrets.clock.served())


def _phase(stored: Stored) -> str:
    state = stored.state
    if state.until is None:
        return "steady, a new root is asked for" if stored.requested else "steady"
    then = "the new root signs" if state.phase is Phase.ANNOUNCED else "the old root is trusted no more"
    since, until = f"{state.since:%Y-%m-%d %H:%M}", f"{state.until:%Y-%m-%d %H:%M}"
    return f"{state.phase.value} since {since} UTC; {then} at {until} UTC"
