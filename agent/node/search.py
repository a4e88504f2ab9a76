"""Finds the pods that no CNI call told of: they ran before us, or another plugin's conflist started them.

Those that such a conflist ended went without a call, too: that their namespace is gone is seen here.
"""

import asyncio
import logging

from agent.errors import describe
from agent.node.cri import Cri
from agent.node.errors import NodeError
from agent.node.pods import Pods

log = logging.getLogger(__name__)

_LOOK = 10.0  # seconds, after which it is seen that a sandbox went without a call
_FIRST_RETRY, _LAST_RETRY = 0.2, 5.0  # seconds


class Search:
    """Asks the runtime for every pod that is to be captured, and who knows where."""

    def __init__(self, pods: Pods, runtime: Cri | None) -> None:
        """Without a runtime it can only say which pods are missing."""
        self.concluded = asyncio.Event()  # what was not found once is not there
        self._pods = pods
        self._runtime = runtime
        self._told: set[str] = set()
        self._complaint = ""

    async def run(self) -> None:
        """Whenever there is such a pod; ends only by being cancelled."""
        pause = _FIRST_RETRY
        while True:
            await self._pods.missed(_LOOK)
            self._pods.rescan()
            if not self._pods.nowhere:
                continue
            await self.once()
            pause = min(2 * pause, _LAST_RETRY) if self._pods.nowhere else _FIRST_RETRY
            await asyncio.sleep(pause)

    async def once(self) -> None:
        """Ask, if there is something to ask for. What cannot be found is named in the log, once."""
        try:
            if self._runtime and self._pods.nowhere:
                wanted = {(pod.metadata.namespace, pod.metadata.name) for pod in self._pods.nowhere.values()}
                self._pods.find(await self._runtime.sandboxes(wanted))
        except (NodeError, OSError) as error:
            self._complain(describe(error))
            return
        self._complain("")
        why = "the runtime knows no sandbox of it" if self._runtime else "give --cri-socket"
        lost = self._pods.lost()
        for uid in lost.keys() - self._told:
            name = f"{lost[uid].metadata.namespace}/{lost[uid].metadata.name}"
            log.warning("pod %s cannot be captured: its network namespace is unknown; %s", name, why)
        self._told = set(lost)
        self.concluded.set()

    def _complain(self, text: str) -> None:
        if text and text != self._complaint:
            log.warning("cannot find the running pods: %s", text)
        self._complaint = text
