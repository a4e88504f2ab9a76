"""How one root takes another's place without a moment in which two peers do not trust each other.

    steady  --begin-->  announced  --hold-->  switched  --hold-->  steady
            the new root is          the new one          the old root is
            trusted as well          signs                trusted no more

A hold lasts as long as the longest certificate. Each certificate comes with the roots to trust, so whoever
has a valid one at the end of the first hold has heard of the new root, and nobody has one by the old root at
the end of the second. What distributes roots faster makes this safer, and nothing depends on it.

Replicas count holds by the same time (`clock`), each within `BOUND` of it.
"""

from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from cryptography import x509

from agent.ca.clock import BOUND
from agent.ca.root import CLOCK_SKEW
from agent.ca.signer import Material, Signer, bundle, roots_of

UNSEEN = timedelta(minutes=1)  # a replica that has not read the state for so long signs nothing
_WRITING = timedelta(minutes=1)  # a change of the state is made at most so long after its `since`
_LEFT = 0.2  # of a root's life, when its successor is announced


class Phase(Enum):
    """Words of the metric and the command line."""

    STEADY = "steady"
    ANNOUNCED = "announced"
    SWITCHED = "switched"


class State(NamedTuple):
    """What all replicas share.

    signing: signs, with the roots that are trusted now. successor: is to sign after it, with the roots that
    remain in the end. remaining: these roots, from the beginning of a rotation to its end. since: of the last
    change. longest: no valid certificate by `signing` was made for longer. former: the path that signed
    before, while certificates by it are valid. crl: lists of what an operator has revoked. revoked: of what
    we were asked to revoke. All in PEM.
    """

    signing: Material
    successor: Material | None
    remaining: str | None
    since: datetime
    longest: timedelta
    former: str = ""
    crl: str = ""
    revoked: str = ""

    @property
    def phase(self) -> Phase:
        """Where the rotation stands."""
        if self.successor:
            return Phase.ANNOUNCED
        return Phase.STEADY if self.remaining is None else Phase.SWITCHED

    @property
    def until(self) -> datetime | None:
        """The end of the phase; None when it is steady."""
        if self.phase is Phase.STEADY:
            return None
        return self.since + self.longest + UNSEEN + _WRITING + CLOCK_SKEW + 2 * BOUND

    @property
    def issuers(self) -> list[x509.Certificate]:
        """All CAs whose certificates, of whatever kind, may be in use. Raises AuthorityError."""
        path = Signer.of(self.signing).path
        return [*path, *roots_of(self.signing.root_cert), *(roots_of(self.former) if self.former else ())]

    @property
    def target(self) -> Material:
        """What signs and is trusted when no rotation is under way any more."""
        if self.successor:
            return self.successor
        return self.signing if self.remaining is None else self.signing._replace(root_cert=self.remaining)


def begin(state: State, successor: Material, now: datetime) -> State:
    """Put another signer in the place of the one that there is. Raises AuthorityError for a bad one.

    Without an announcement when the same root vouches for both, which all trust already.
    """
    trusted = bundle([*roots_of(state.signing.root_cert), *roots_of(successor.root_cert)])
    announced = state._replace(
        signing=state.signing._replace(root_cert=trusted),
        successor=successor,
        remaining=successor.root_cert,
        since=now,
    )
    same_root = Signer.of(successor).root == Signer.of(state.signing).root
    return _switch(announced, now) if same_root else announced


def step(state: State, now: datetime, longest: timedelta) -> State | None:
    """The state that follows when its time has come. `longest`: of certificates from now on."""
    if state.until is None or now < state.until:
        return None
    if state.phase is Phase.ANNOUNCED:
        return _switch(state, now)
    return state._replace(signing=state.target, remaining=None, since=now, longest=longest, former="")


def is_due(signer: Signer, now: datetime) -> bool:
    """Whether a root of our own has so little of its life left that its successor should be announced."""
    root = signer.certificate
    if root != signer.root:
        return False
    life = root.not_valid_after_utc - root.not_valid_before_utc
    return now >= root.not_valid_after_utc - life * _LEFT


def _switch(state: State, now: datetime) -> State:
    """The remaining roots come first then: a bundle whose order changed says that there is a new signer."""
    assert state.successor and state.remaining
    trusted = bundle([*roots_of(state.remaining), *roots_of(state.signing.root_cert)])
    signing = state.successor._replace(root_cert=trusted)
    former = state.signing.ca_cert + state.signing.cert_chain + state.former
    return state._replace(signing=signing, successor=None, since=now, former=former)
