"""Keeps a replica at the state that all share, and moves that state on when its time has come.

The Secrets are read every few seconds rather than watched: a read says that what we have is current, which a
silent watch does not, and the rotation's safety rests on every replica knowing that.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

from agent.ca import root
from agent.ca.errors import AuthorityError, Reason, Refusal
from agent.ca.rotation import UNSEEN, Phase, State, begin, is_due, step
from agent.ca.secret import PLUGGED_IN, Secrets, Stored
from agent.ca.signer import Signer, named, roots_of, tidy
from agent.errors import WarrenError
from agent.kube.errors import ApiError

log = logging.getLogger("warren.ca")

_EVERY = 2.0  # seconds between two reads
_IN_A_ROW = 10  # changes; more come only from replicas that do not agree


class Keeper:
    """Gives the signer of the Secret's state. `longest`: lifetime of what this replica signs."""

    def __init__(self, secrets: Secrets, trust_domain: str, longest: timedelta) -> None:
        self._secrets = secrets
        self._trust_domain = trust_domain
        self._longest = longest
        self._state: State | None = None
        self._signer: Signer | None = None
        self._read_at = 0.0
        self._complaints: dict[str, str] = {}  # the last one on each matter, told once

    @property
    def phase(self) -> Phase:
        """Of the rotation, as far as we know."""
        return self._state.phase if self._state else Phase.STEADY

    @property
    def _current(self) -> bool:
        """Whether what we have was in force a moment ago."""
        return self._signer is not None and time.monotonic() - self._read_at <= UNSEEN.total_seconds()

    def signer(self) -> Signer:
        """What signs now. Raises Refusal when that is not known for certain."""
        if self._signer is None or not self._current:
            raise Refusal(Reason.ROOT_UNKNOWN, "the authority cannot read which root is in force")
        return self._signer

    async def open(self) -> None:
        """Read until there is a signer. Raises AuthorityError for Secrets that cannot be used."""
        while self._signer is None:
            try:
                await asyncio.to_thread(self._refresh)
            except ApiError as error:
                self._complain("read", f"waiting for the root: {error}")
                await asyncio.sleep(_EVERY)

    async def run(self) -> None:
        """Follow the state for good; what goes wrong is logged once, and tried again."""
        while True:
            await asyncio.sleep(_EVERY)
            try:
                await asyncio.to_thread(self._refresh)
            except WarrenError as error:
                self._complain("read", str(error))
            else:
                self._complain("read", "")

    def _refresh(self) -> None:
        """Read, change what is to be changed, and read again until nothing is. Blocks."""
        for _ in range(_IN_A_ROW):
            started = time.monotonic()
            stored = self._secrets.read()
            if stored is None:
                self._secrets.create(self._first())
            elif change := self._change(stored):
                self._secrets.replace(change, stored)
            else:
                self._take(stored.state)
                self._read_at = started
                return
        raise AuthorityError("the state of the root keeps changing: are replicas set to different lifetimes?")

    def _first(self) -> State:
        """What to make a Secret of. One that was deleted is put back: its certificates are in use."""
        if self._state and self._signer and self._signer.not_after > datetime.now(UTC):
            log.warning(
                "the Secret with the root was deleted: putting it back; `warren ca rotate` makes a new root"
            )
            return self._state
        wanted = self._secrets.plugged_in() or tidy(root.make(self._trust_domain))
        return State(wanted, None, None, datetime.now(UTC), self._longest)

    def _change(self, stored: Stored) -> State | None:
        """What the state should be instead, if anything."""
        state, now = stored.state, datetime.now(UTC)
        if self._state and self._dropped_by(state):
            log.warning("the Secret was exchanged for that of another root: changing over to it")
            return begin(self._state, state.target, now)
        try:
            wanted = self._secrets.plugged_in()
            self._complain(PLUGGED_IN, "")
        except AuthorityError as error:
            self._complain(PLUGGED_IN, f"{error}; until then nothing changes")
            wanted = state.target
        if wanted and wanted._replace(ca_key="") != state.target._replace(ca_key=""):
            return begin(state, wanted, now)
        if following := step(state, now, self._longest):
            return following
        if wanted is None and state.phase is Phase.STEADY:
            if stored.requested or is_due(Signer.of(state.signing), now):
                return begin(state, tidy(root.make(self._trust_domain)), now)
        elif stored.requested:
            log.warning(
                "a rotation was asked for, but one is under way or the CA is plugged in: nothing changes"
            )
            return state
        return state._replace(longest=self._longest) if state.longest < self._longest else None

    def _dropped_by(self, state: State) -> bool:
        """Whether a state does without the root of certificates in use, which no rotation does."""
        if self._signer is None or not self._current:
            return False
        return self._signer.root not in roots_of(state.signing.root_cert)

    def _take(self, state: State) -> None:
        if state == self._state:
            return
        self._signer, self._state = Signer.of(state.signing), state
        until = f" until {state.until:%Y-%m-%d %H:%M:%S} UTC" if state.until else ""
        log.info("signing by %s; rotation: %s%s", named(self._signer.certificate), state.phase.value, until)

    def _complain(self, matter: str, text: str) -> None:
        if text and self._complaints.get(matter) != text:
            log.error("%s", text)
        self._complaints[matter] = text
