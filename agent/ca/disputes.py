"""Clocks that disagree: which replica says so. All replicas and `warren ca status` read it in the Secret."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

_FRESH = timedelta(minutes=3)  # older ones are of replicas that are gone
_AGAIN = timedelta(minutes=1)


class Dispute(Struct, frozen=True):
    """What a replica says, and when, by the API server's clock."""

    text: str
    seen: datetime


Disputes = Mapping[str, Dispute]  # by the replica's name


def decode(text: str) -> Disputes:
    """Those of an annotation; none when it cannot be read."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Dispute])
    except msgspec.MsgspecError:
        return {}


def encode(disputes: Disputes) -> str | None:
    """For the annotation; None: it is to go."""
    return msgspec.json.encode(disputes).decode() if disputes else None


def fresh(disputes: Disputes, now: datetime) -> Disputes:
    """Those that count."""
    return {name: one for name, one in disputes.items() if now - one.seen < _FRESH}


def said(disputes: Disputes, replica: str, text: str, now: datetime) -> Disputes | None:
    """What should be there when `replica` says `text`, empty for nothing; None: that is there."""
    mine = disputes.get(replica)
    if not text and mine is None:
        return None
    if text and mine and now - mine.seen < _AGAIN:
        return None
    others = {name: one for name, one in fresh(disputes, now).items() if name != replica}
    return others | ({replica: Dispute(text, now)} if text else {})


def told(disputes: Disputes, now: datetime) -> str:
    """In words, what comes of them; empty when there are none."""
    each = "; ".join(f"{name} says: {one.text}" for name, one in sorted(fresh(disputes, now).items()))
    return each and f"{each}. No rotation goes on until all clocks agree"
