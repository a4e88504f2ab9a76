"""Kinds that are known to be absent: discovery has said so twice, some time apart."""

import logging
import threading
import time
from collections.abc import Callable, Iterable

from agent.kube.client import Client
from agent.kube.discovery import Resource, missing
from agent.kube.errors import ApiError
from agent.model.engine.kind import Kind

log = logging.getLogger(__name__)

APART = 10.0  # seconds; a server that starts may say less than it serves for some
_SELDOM = 30.0  # seconds between two questions whose answer is known, or does not come


class Absence:
    """Asks discovery about the kinds that are in doubt, by a thread of its own, while there are any."""

    def __init__(
        self, client: Client, doubted: Callable[[], Iterable[Kind]], changed: Callable[[], None]
    ) -> None:
        """doubted: the kinds to ask about; changed: called by the thread when other kinds are absent."""
        self.error: ApiError | None = None  # why discovery says nothing
        self._client, self._doubted, self._changed = client, doubted, changed
        self._lock = threading.Lock()  # of the three that follow: what is refuted, others have seen
        self._proven: set[str] = set()
        self._refuted: set[str] = set()  # since discovery was asked
        # By kind: when the first came of the answers, without another between them, that lack it.
        self._since: dict[str, float] = {}
        self._stopped = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="discovery", daemon=True)

    def __contains__(self, kind: Kind) -> bool:
        return kind.name in self._proven

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    def recheck(self) -> None:
        """There may be another kind in doubt: ask about it soon."""
        self._wake.set()

    def refute(self, kind: Kind) -> None:
        """The kind is there, whatever discovery said."""
        with self._lock:
            self._proven.discard(kind.name)
            self._since.pop(kind.name, None)
            self._refuted.add(kind.name)

    def _run(self) -> None:
        pause: float | None = None
        while not self._stopped:
            self._wake.wait(pause)
            self._wake.clear()
            try:
                pause = self._ask() if not self._stopped else 0
            except ApiError as error:
                pause = self._failed(error)
            except Exception as error:  # a mistake of ours must not end it without anyone's notice
                log.exception("discovery")
                pause = self._failed(ApiError(0, "Malformed", f"discovery: {error!r}"))

    def _failed(self, error: ApiError) -> float:
        """What it said before is no proof any more; gives the seconds until it is asked again."""
        with self._lock:
            self.error, self._since = error, {}
        return APART

    def _ask(self) -> float | None:
        """Ask once; gives the seconds until it is time again, None: not before there is another doubt."""
        doubted = {Resource(kind.group, kind.plural): kind.name for kind in self._doubted()}
        if not doubted:
            return None
        with self._lock:
            self._refuted.clear()
        asked = time.monotonic()
        absent = {doubted[resource] for resource in missing(self._client, doubted)}
        self.error = None
        with self._lock:
            former = frozenset(self._proven)
            pause = self._judge(asked, {*doubted.values()}, absent - self._refuted)
            changed = self._proven != former
        if changed:
            self._changed()
        return pause

    def _judge(self, asked: float, doubted: set[str], absent: set[str]) -> float:
        """Take an answer that came just now; gives the seconds until it is time to ask again."""
        answered = time.monotonic()
        if new := sorted(absent - self._since.keys() - self._proven):
            log.info("discovery lists no %s; believed if it says so again in %.0f s", ", ".join(new), APART)
        since = self._since = {name: self._since.get(name, answered) for name in absent}
        self._proven -= doubted - absent
        self._proven |= {name for name in absent if asked - since[name] >= APART}
        if not (unproven := absent - self._proven):
            return _SELDOM
        # What made us ask too early for a proof does not put it off.
        return max(0.0, min(since[name] for name in unproven) + APART - answered)
