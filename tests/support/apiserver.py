"""API servers for tests: the fake in a thread of its own, its faults at hand, or the real one that is named.

    with apiserver.fake() as server:
        server.kubeconfig             # the admin's, a file
        server.stop(), server.start()  # away, and back on the same port with its data
        server.compact()              # what was read before is too old: 410
        server.cut_watches(after=100)  # those that run, after 100 further bytes
        with server.hold("pods"): ...  # watches of pods tell nothing meanwhile
        with server.hidden("a.example"): ...  # 404 for its kinds, and discovery lacks the group
        server.save(file), server.restore(file)  # etcd is older than it was
        server.faults.latency = 0.5   # and the others of `Faults`

`WARREN_TEST_KUBECONFIG` names the kubeconfig of a real server, whose bearer may do everything there.
"""

import asyncio
import gc
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.support.kubernetes.faults import Faults
from tests.support.kubernetes.server import Server

T = TypeVar("T")
_SECONDS = 30.0  # at most, for a call into the server's thread


def real() -> Path | None:
    """The kubeconfig of a real server, when the tests are to be run against one."""
    named = os.environ.get("WARREN_TEST_KUBECONFIG")
    return Path(named) if named else None


class Fake:
    """A fake server under a test's control. Its methods may be called from any thread but its own."""

    def __init__(self, folder: Path, **options: Any) -> None:
        """`options`: those of `Server`. A folder that an earlier fake has used is gone on with."""
        self.folder, self._options = folder, options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake API server", daemon=True)
        self._thread.start()
        self._server = self._call(lambda: Server(folder, **options))
        self.faults: Faults = self._server.faults
        self.kubeconfig = self._run(self._server.start())

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self._server.port

    def stop(self) -> None:
        """Be away: connections are cut and new ones refused until `start`."""
        self._run(self._server.stop())

    def start(self) -> None:
        """Be back, with the data and the history of before."""
        self._run(self._server.start())

    def compact(self) -> None:
        """Forget all history: watches, exact lists and pages from before get 410."""
        self._call(self._server.api.compact)

    def cut_watches(self, after: int = 0) -> None:
        """Cut the connections of the watches that run, after so many further bytes of each."""
        self._call(lambda: self._server.cut_watches(after))

    @contextmanager
    def hold(self, resource: str) -> Iterator[None]:
        """Let the watches of a resource tell nothing meanwhile: its changes are seen after others."""
        self._call(lambda: self._server.hold(resource))
        try:
            yield
        finally:
            self._call(lambda: self._server.release(resource))

    @contextmanager
    def hidden(self, *groups: str) -> Iterator[None]:
        """Know nothing of these groups meanwhile, as a server that has just started."""
        self._call(lambda: self._server.api.kinds.hidden.update(groups))
        try:
            yield
        finally:
            self._call(self._server.api.kinds.hidden.clear)

    def save(self, file: Path) -> None:
        """A backup of all objects."""
        self._call(lambda: self._server.api.storage.save(file))

    def restore(self, file: Path) -> None:
        """Be back with the objects of a backup, and at the resourceVersion of then; the history is lost."""
        self._run(self._server.close())
        self._run(_end_all())
        shutil.copy(file, self.folder / "data")
        self._server = self._call(lambda: Server(self.folder, port=self.port, **self._options))
        self._server.faults = self.faults
        self.start()

    @property
    def watches(self) -> int:
        """How many watches run."""
        return self._call(lambda: len(self._server.streams))

    def revoke(self, token: str) -> None:
        """Let a bearer token count as nobody's from now on."""
        self._server.api.users.revoked.add(token)

    def kubeconfig_for(self, token: str, file: Path) -> Path:
        """A kubeconfig, written to `file`, for the bearer of a token."""
        return self._server.pki.write_kubeconfig(self.port, token, file)

    def close(self) -> None:
        """Stop for good; the data are left in the folder."""
        self._run(self._server.close())
        self._run(_end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        self._loop.close()
        with warnings.catch_warnings():
            # asyncio loses sight of connections whose client goes in the middle of a TLS handshake.
            warnings.filterwarnings("ignore", "unclosed (transport|<socket)", ResourceWarning)
            gc.collect()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)

    def _call(self, function: Callable[[], T]) -> T:
        async def called() -> T:
            return function()

        return self._run(called())


async def _end_all() -> None:
    """End what the loop has left: handshakes under way, connections that clients closed a moment ago."""
    loop = asyncio.get_running_loop()
    for _ in range(20):  # what was accepted a moment ago begins a handshake
        for transport in [*loop._transports.values()]:  # type: ignore[attr-defined]
            transport.abort()
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)


@contextmanager
def fake(folder: Path | None = None, **options: Any) -> Iterator[Fake]:
    """A fake server that runs; in a folder of its own unless one is given. `options`: those of `Server`."""
    with tempfile.TemporaryDirectory(prefix="wt-api-") as own:
        server = Fake(folder or Path(own), **options)
        try:
            yield server
        finally:
            server.close()
