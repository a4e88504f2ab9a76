"""Looks every few seconds whether what should be captured still is, and has it put right.

Whatever took it away: an operator's `ip rule flush`, another program's clean-up, a pod with CAP_NET_ADMIN.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from functools import partial
from itertools import islice
from pathlib import Path

from agent.errors import WarrenError, describe
from agent.node.audit import MENDED, Fault, Finding, Subject
from agent.node.datapath import Datapath
from agent.node.enrolment import Enrolment
from agent.node.netns import NetnsFd
from agent.node.state import Cookie

log = logging.getLogger(__name__)

_EVERY = 10.0  # seconds
_AT_ONCE = 16  # pods; a pod that starts meanwhile waits for no more, which is about 5 ms


class Watch:
    """`broken`: what is wrong with pods, by uid. `mended`: how often a fault, or a program, was mended."""

    def __init__(self, datapath: Datapath, enrolment: Enrolment) -> None:
        self.broken: dict[str, list[Finding]] = {}
        self.mended: Counter[str] = Counter()
        self._datapath = datapath
        self._enrolment = enrolment

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_EVERY)
            try:
                await self.reconcile()
            except (WarrenError, OSError) as error:
                log.warning("cannot read from the kernel what is captured: %s; trying again", describe(error))

    async def reconcile(self) -> None:
        """Once. Raises DatapathError."""
        for program in await self._enrolment.in_kernel(self._datapath.restore):
            log.warning("program %s had been detached, and is attached again", program)
            self.mended["program"] += 1
        found: dict[str, list[Finding]] = {}
        pods = iter(self._enrolment.held())
        while some := tuple(islice(pods, _AT_ONCE)):
            found |= await self._enrolment.in_kernel(partial(self._audit, some))
        for uid, findings in found.items():
            self._judge(uid, findings)
        self.broken = found

    async def lacking(self, path: Path) -> str:
        """What a pod in this namespace lacks to be captured, the tunnel apart; empty if nothing.

        Raises NodeError.
        """
        return await self._enrolment.in_kernel(partial(self._lacking, path))

    def captured(self) -> int:
        """How many pods are enrolled, and had nothing wrong when they were looked at."""
        return len(self._enrolment.held().keys() - self.broken.keys())

    def counts(self) -> Mapping[str, int]:
        """How many pods have each fault."""
        faults = Counter(finding.fault for findings in self.broken.values() for finding in findings)
        return {fault: faults[fault] for fault in Fault}

    def _audit(self, uids: tuple[str, ...]) -> dict[str, list[Finding]]:
        """Of those that are still captured: nothing is changed while this runs."""
        held = self._enrolment.held()
        pods: dict[Cookie, str] = {held[uid].cookie: uid for uid in uids if uid in held}
        subjects = {
            cookie: Subject(held[uid].netns, held[uid].sandbox.addresses) for cookie, uid in pods.items()
        }
        return {pods[cookie]: findings for cookie, findings in self._datapath.audit(subjects).items()}

    def _lacking(self, path: Path) -> str:
        netns = NetnsFd.open(path)
        try:
            findings = self._datapath.audit({Cookie(netns.cookie()): Subject(netns)}).values()
            return "; ".join(one.text for found in findings for one in found if one.fault in MENDED)
        finally:
            netns.close()

    def _judge(self, uid: str, findings: list[Finding]) -> None:
        known = {finding.fault for finding in self.broken.get(uid, ())}
        for finding in findings:
            if finding.fault not in known:
                log.warning("pod %s: %s", uid, finding.text)
        if faults := {finding.fault for finding in findings} & MENDED:
            self.mended.update(faults)
            self._enrolment.again(uid)
