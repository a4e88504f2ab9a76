"""Keeps a replica at the state that all share, and moves that state on when its time has come.

The Secrets are read every few seconds rather than watched: a read says that what we have is current, which a
silent watch does not, and the rotation's safety rests on every replica knowing that. It also says what time
it is: a read whose time is in dispute does not count, and who has had no other for a minute signs no more.
"""

import asyncio
import logging
from datetime import datetime, timedelta

from agent.ca import disputes, revocation, root
from agent.ca.clock import BOUND, apart, elapsed
from agent.ca.errors import AuthorityError, ClockError, Reason, Refusal
from agent.ca.rotation import UNSEEN, Phase, State, begin, is_due, step
from agent.ca.secret import OURS, PLUGGED_IN, REVOKE, Plugged, Secrets, Stored
from agent.ca.signer import Material, Signer, named, roots_of, tidy
from agent.errors import WarrenError
from agent.kube.errors import ApiError
from agent.kube.lease import DURATION, Lease

log = logging.getLogger("warren.ca")

_EVERY = 2.0  # seconds between two reads
_IN_A_ROW = 10  # changes; more come only from replicas that do not agree
_MATTERS = ("read", "clock", PLUGGED_IN, "crl")
_LEASE_BOUND = BOUND + timedelta(seconds=DURATION)


class Keeper:
    """Gives the signer of the Secret's state, and the lists of what is revoked.

    troubles: what is wrong, in words, by matter; each was logged when it began. Empty texts are over.
    """

    def __init__(self, secrets: Secrets, lease: Lease, trust_domain: str, longest: timedelta) -> None:
        """lease: of the replicas. longest: lifetime of what this replica signs."""
        self.troubles = dict.fromkeys(_MATTERS, "")
        self._secrets = secrets
        self._lease = lease
        self._trust_domain = trust_domain
        self._longest = longest
        self._state: State | None = None
        self._signer: Signer | None = None
        self._crl = ""
        self._read_at = 0.0  # by `elapsed`

    @property
    def phase(self) -> Phase:
        """Of the rotation, as far as we know."""
        return self._state.phase if self._state else Phase.STEADY

    @property
    def _current(self) -> bool:
        """Whether what we have was in force a moment ago."""
        return self._signer is not None and elapsed() - self._read_at <= UNSEEN.total_seconds()

    def signer(self) -> Signer:
        """What signs now. Raises Refusal when that is not known for certain."""
        if self._signer and self._current:
            return self._signer
        if dispute := self._secrets.clock.dispute:
            raise Refusal(Reason.CLOCK, f"{dispute}: nothing is signed until they agree")
        raise Refusal(Reason.ROOT_UNKNOWN, "the authority cannot read which root is in force")

    def crl(self) -> str:
        """The lists of what is revoked, for all who verify, PEM; may be empty. Raises Refusal."""
        self.signer()
        return self._crl

    async def open(self) -> None:
        """Read until there is a signer. Raises AuthorityError for Secrets that cannot be used."""
        while self._signer is None:
            try:
                await asyncio.to_thread(self._refresh)
            except (ApiError, ClockError) as error:
                self._tell("read", f"waiting for the root: {error}")
                await asyncio.sleep(_EVERY)

    async def run(self) -> None:
        """Follow the state for good; what goes wrong is logged once, and tried again."""
        while True:
            await asyncio.sleep(_EVERY)
            try:
                await asyncio.to_thread(self._refresh)
            except WarrenError as error:
                self._tell("read", str(error))
            else:
                self._tell("read", "")

    def _refresh(self) -> None:
        """Read, change what is to be changed, and read again until nothing is. Blocks."""
        for _ in range(_IN_A_ROW):
            started = elapsed()
            stored = self._secrets.read()
            if stored and self._answer(stored):
                continue
            if dispute := self._secrets.clock.dispute:
                raise ClockError(f"{dispute}: set it right")
            if stored is None:
                self._secrets.create(self._first())
            elif change := self._change(stored):
                self._secrets.replace(change, stored)
            else:
                self._take(stored.state)
                self._read_at = started
                return
        raise AuthorityError("the state of the root keeps changing: are replicas set to different lifetimes?")

    def _answer(self, stored: Stored) -> bool:
        """Do what does not depend on the time: say that clocks disagree, revoke. Whether that is a change."""
        now, other = self._secrets.clock.served(), self._lease.renewal
        dispute = self._secrets.clock.dispute
        if not dispute and other and abs(other.ahead) > _LEASE_BOUND:
            dispute = f"the clock of {other.holder}, which holds the lease, is {apart(other.ahead)} mine"
        if (noted := disputes.said(stored.disputes, self._lease.holder, dispute, now)) is not None:
            self._secrets.note(noted, stored)
        elif stored.revoke:
            self._secrets.replace(self._revoked(stored, now), stored, REVOKE)
        else:
            self._tell("clock", disputes.told(stored.disputes, now))
            return False
        return True

    def _revoked(self, stored: Stored, now: datetime) -> State:
        """The state with what we were asked to revoke; without it, for a reason that is logged."""
        state = stored.state
        try:
            signer = Signer.of(state.signing)
            if revocation.of([signer.certificate], state.crl) or self._secrets.plugged_in():
                raise AuthorityError(f"the CA is plugged in: put its CRL into {PLUGGED_IN}")
            revoked = revocation.revoke(signer, state.revoked, stored.revoke, now)
            return state._replace(revoked=revocation.usable(revoked, state.issuers))
        except AuthorityError as error:
            log.error("nothing was revoked: %s", error)
            return state

    def _first(self) -> State:
        """What to make a Secret of. One that was deleted is put back: its certificates are in use."""
        now = self._secrets.clock.now()
        if self._state and self._signer and self._signer.not_after > now:
            log.warning(
                "the Secret with the root was deleted: putting it back; `warren ca rotate` makes a new root"
            )
            return self._state
        if plugged := self._secrets.plugged_in():
            state = State(plugged.material, None, None, now, self._longest)
            return state._replace(crl=revocation.usable(plugged.crl, state.issuers))
        return State(tidy(root.make(self._trust_domain, now)), None, None, now, self._longest)

    def _change(self, stored: Stored) -> State | None:
        """What the state should be instead, if anything."""
        state, now = stored.state, self._secrets.clock.now()
        if self._state and self._dropped_by(state):
            log.warning("%s was exchanged for that of another root: changing over to it", OURS)
            return begin(self._state, state.target, now)
        try:
            plugged = self._secrets.plugged_in()
            wanted = plugged.material if plugged else None
            self._tell(PLUGGED_IN, "")
        except AuthorityError as error:
            self._tell(PLUGGED_IN, f"{error}; until then nothing changes")
            plugged, wanted = None, state.target
        else:
            if (listed := self._listed(state, plugged, now)) != state:
                return listed
        if following := self._following(stored, wanted, now):
            return following
        if stored.requested and (wanted or state.phase is not Phase.STEADY):
            log.warning(
                "a rotation was asked for, but one is under way or the CA is plugged in: nothing changes"
            )
            return state
        return state._replace(longest=self._longest) if state.longest < self._longest else None

    def _following(self, stored: Stored, wanted: Material | None, now: datetime) -> State | None:
        """The next step of a rotation, if it is time for one and all agree on what time it is."""
        state = stored.state
        if disputes.fresh(stored.disputes, now):
            return None
        if wanted and wanted._replace(ca_key="") != state.target._replace(ca_key=""):
            return begin(state, wanted, now)
        if following := step(state, now, self._longest):
            return following
        steady = wanted is None and state.phase is Phase.STEADY
        if steady and (stored.requested or is_due(Signer.of(state.signing), now)):
            return begin(state, tidy(root.make(self._trust_domain, now)), now)
        return None

    def _listed(self, state: State, plugged: Plugged | None, now: datetime) -> State:
        """The state with the operator's last good lists, and ours without what is over."""
        signer, crl, revoked = Signer.of(state.signing), state.crl, state.revoked
        if revocation.is_due(signer, revoked, now):
            revoked = revocation.revoke(signer, revoked, (), now)
        if state.phase is Phase.STEADY:  # nobody has a certificate by anyone else
            crl, revoked = (revocation.of(state.issuers, text) for text in (crl, revoked))
        if plugged:
            its = Signer.of(plugged.material)
            issuers = [*state.issuers, *its.path, *roots_of(its.bundle)]
            try:
                crl = revocation.usable(plugged.crl, issuers)
                self._tell("crl", "")
            except AuthorityError as error:
                self._tell("crl", f"{self._secrets.where(PLUGGED_IN)}: {error}; the last good list stays")
        if (state.crl or state.revoked) and not (crl or revoked):
            revoked = revocation.revoke(signer, "", (), now)
        return state._replace(crl=crl, revoked=revoked)

    def _dropped_by(self, state: State) -> bool:
        """Whether a state does without the root of certificates in use, which no rotation does."""
        if self._signer is None or not self._current:
            return False
        return self._signer.root not in roots_of(state.signing.root_cert)

    def _take(self, state: State) -> None:
        if state == self._state:
            return
        self._crl = state.crl + state.revoked
        self._signer, self._state = Signer.of(state.signing), state
        until = f" until {state.until:%Y-%m-%d %H:%M:%S} UTC" if state.until else ""
        log.info("signing by %s; rotation: %s%s", named(self._signer.certificate), state.phase.value, until)
        if count := len(revocation.serials(self._crl)):
            log.info("%d certificates are revoked", count)

    def _tell(self, matter: str, text: str) -> None:
        if text and self.troubles.get(matter) != text:
            log.error("%s", text)
        self.troubles[matter] = text
