"""One kind, followed for good by a thread of its own: lists, watches, and tries again when either fails."""

import logging
import math
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from agent.kube.client import JSON, Client, path_of
from agent.kube.errors import ApiError
from agent.kube.listwatch import WENT_BACK, Event, ListWatch, Name
from agent.kube.stream import Stream

# How to ask for that of every object which all kinds have: the metadata.
_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"

_FIRST, _LONGEST = 0.5, 30.0  # seconds to wait after one failure, and after many in a row
_IDLE = 150.0  # seconds of silence; servers send a bookmark every minute or so
_LIST = 60.0  # seconds for a page
_LIFE = (300, 600)  # seconds after which a server is to end a watch, so that several share the load
_FEW = 500  # objects, as many as come in one answer
_SHORT = 1.0  # seconds; a watch that ended earlier, and told nothing, has failed
# A list catches what a watch has not told without anybody's noticing. Seconds between two, and more for each
# object: however large a cluster is, this costs its server two objects a second for each agent, at most.
_RELIST, _RELIST_EACH = 900.0, 0.5

log = logging.getLogger(__name__)

# stale: changes were missed, all is listed again; absent: the answer is 404; away: there is none.
State = Literal["starting", "current", "stale", "absent", "forbidden", "away"]


class Watcher:
    """Tells what there is of a kind, from `start` to `stop`.

    restarts: by reason, how often a request had to be made again. error: why the state is not `current`.
    verb: of the request that this error is about. heard: when what is told was last known to be all, on the
    monotonic clock.
    """

    def __init__(
        self,
        client: Client,
        paths: Sequence[str],
        tell: Callable[[Iterable[Event]], None],
        noted: Callable[[], None],
        went_back: Callable[[], None] = lambda: None,
        *,
        metadata: bool = False,
        fields: str = "",
    ) -> None:
        """paths: of the kind, like /api/v1/pods, one for each version, the preferred one first.

        tell takes events, and is to use them up at once; noted is called when the state is another one,
        went_back when the server's data are older than what it has told; all by the thread. metadata: whether
        no more is asked for. fields: a field selector.
        """
        self._client, self._tell, self._noted, self._went_back = client, tell, noted, went_back
        self._paths = deque(paths)
        self._accept = (_METADATA.format("List"), _METADATA.format("")) if metadata else (JSON, JSON)
        self._selector = {"fieldSelector": fields} if fields else {}
        self._listwatch = ListWatch()
        self._stream: Stream | None = None
        self._stopped = threading.Event()
        self._go_on = threading.Event()  # instead of waiting for the end of a pause
        self._thread = threading.Thread(target=self._run, name=f"watch {paths[0]}", daemon=True)
        self._failures = 0  # in a row
        self._anew = threading.Event()  # set: list again
        self._list_at = 0.0  # when it is time to, on the monotonic clock
        self.state: State = "starting"
        self.error: ApiError | None = None
        self.verb: Literal["list", "watch"] = "list"
        self.heard = time.monotonic()
        self.restarts: Counter[str] = Counter()

    def path_to(self, name: Name) -> str:
        """Where an object of the kind is, in the version that is served."""
        group, plural = self._paths[0].rsplit("/", 1)
        within = path_of("namespaces", name.namespace) if name.namespace else ""
        return f"{group}{within}/{plural}{path_of(name.name)}"

    def start(self) -> None:
        self._thread.start()

    def hasten(self) -> None:
        """Try again now, if it is waiting to: there is reason to hope."""
        if self.state != "current":
            self._go_on.set()

    def relist(self) -> None:
        """List all again, now; from any thread. What is known stays in force meanwhile."""
        self._anew.set()
        self._interrupt()

    def stop(self) -> None:
        """End it soon; a request that is under way may still be answered, and told."""
        self._stopped.set()
        self._interrupt()

    def _interrupt(self) -> None:
        self._go_on.set()
        if stream := self._stream:
            stream.stop()

    def _run(self) -> None:
        requests = {"list": self._list, "check": self._check, "watch": self._watch}
        while not self._stopped.is_set():
            if self._anew.is_set() or time.monotonic() > self._list_at:
                self._anew.clear()
                self._list_at = math.inf
                self._listwatch.restart()
            try:
                requests[self._listwatch.next]()
            except ApiError as error:
                if not self._stopped.is_set():
                    self._failed(error)
            except Exception as error:  # a mistake of ours must not end a watch without anyone's notice
                log.exception("watch of %s", self._paths[0])
                self._failed(ApiError(0, "Malformed", f"GET {self._paths[0]}: {error!r}"))

    def _list(self) -> None:
        self._tell(self._listwatch.page(self._read(self._accept[0])))
        if self._listwatch.next != "list":
            between = _RELIST + _RELIST_EACH * len(self._listwatch)
            self.heard = time.monotonic()
            self._list_at = self.heard + between * random.uniform(0.75, 1.25)
            if not (self._failures and self.verb == "watch"):  # else it is to be seen whether that goes on
                self._well()

    def _check(self) -> None:
        self._listwatch.check(self._read(_METADATA.format("List")))

    def _read(self, accept: str) -> bytes:
        query = self._listwatch.query() | self._selector
        return self._client.request("GET", self._paths[0], query=query, accept=accept, timeout=_LIST)

    def _watch(self) -> None:
        query = self._listwatch.query() | self._selector
        query["timeoutSeconds"] = str(random.randint(*_LIFE))
        began, told = time.monotonic(), False
        with self._client.stream(self._paths[0], query, _IDLE, self._accept[1]) as self._stream:
            if self._stopped.is_set() or self._anew.is_set():
                return
            self._go_on_current()
            for line in self._stream:
                self._tell(self._listwatch.line(line))
                self._failures, told = 0, True
                self._go_on_current()
        self._listwatch.ended()
        if not told and time.monotonic() - began < _SHORT:
            raise ApiError(0, "Ended", f"GET {self._paths[0]}: the watch ended before it began")

    def _well(self) -> None:
        self._failures = 0
        self._enter("current")

    def _go_on_current(self) -> None:
        """Once it was interrupted, what was missed has to be told before anything counts as current."""
        if self.state == "current" or self._listwatch.caught_up:
            self._enter("current")

    def _failed(self, error: ApiError) -> None:
        """Note it, and wait: longer each time, and not as long as others do."""
        self.verb = "watch" if self._listwatch.next == "watch" else "list"
        self._listwatch.failed(error)
        self.restarts[error.reason or str(error.status)] += 1
        self._failures += 1
        if error.reason == WENT_BACK:
            log.warning("GET %s: %s Listing all again", self._paths[0], error)
            self._went_back()
        if error.status == 404:
            self._paths.rotate(-1)
            if self._failures < len(self._paths):
                return
            self._enter("absent", error)
        elif error.status == 403:
            self._enter("forbidden", error)
        elif self._failures > 1:  # once may be the end of a connection that lived for long
            self._enter("away", error)
        elif self._listwatch.next == "list" and self.state == "current":
            self._enter("stale", error)
        if self.state != "current" and len(self._listwatch) <= _FEW:
            self._listwatch.restart()  # no more than to ask how far the server is, and all is known at once
        pause = min(_LONGEST, _FIRST * 2 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1)
        self._go_on.wait(max(pause, error.retry_after))
        self._go_on.clear()

    def _enter(self, state: State, error: ApiError | None = None) -> None:
        if state == "current":
            self.heard = time.monotonic()
        former, self.state, self.error = self.state, state, error
        if former != state:
            self._noted()
