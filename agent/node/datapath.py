"""The redirection on this node: loaded, told who is a pod and who is the tunnel.

The order for a pod: `prepare` (the tunnel's listeners can register), routing, the tunnel told, `capture`.
Back: `release`, the tunnel told, routing undone, `forget`. There is one writer: a second agent is refused.
Within the agent any thread may call.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import inf
from pathlib import Path

from agent.errors import describe
from agent.node import features, routing, state
from agent.node.audit import Finding, Subject, audit
from agent.node.cgroups import cgroup_exists, cgroup_of, cpu_seconds
from agent.node.errors import DatapathError
from agent.node.exclusive import exclusive
from agent.node.listeners import carries
from agent.node.netns import NetnsFd
from agent.node.state import Address, Cookie, PodState
from bpf.errors import BpfError
from bpf.layout import POD_CAPTURED, POD_PREFIX, PROBE_PORTS, Pod, pack_address, pack_number, unpack_number
from bpf.maps import Descriptor, Link
from bpf.pins import INBOUND, Pins
from bpf.programs import OBJECT, Object
from bpf.stats import runs
from protocols.agent import Cost, Runs

_COUNTED_FOR = 30.0  # seconds
RESERVED = frozenset({15001, 15006, 15008})  # the tunnel's ports in each pod, of bpf/constants.h


class Datapath:
    """Everything is pinned: it goes on when this object, or the process, ends. `remove` takes it away."""

    def __init__(self, cgroup: Path, bpffs: Path, program: Path) -> None:
        """Use `open`."""
        bpffs.mkdir(parents=True, exist_ok=True)
        self._one_at_a_time = threading.Lock()
        self._fill: dict[str, tuple[int, int]] = {}
        self._counted = -inf  # time.monotonic
        self._cgroup = cgroup
        self._pins = Pins(bpffs)
        self._program = Object(program)
        self._target = Descriptor(os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        self._lock = exclusive(bpffs)
        try:
            self._maps = self._pins.load(self._target.fd, self._program)
        except BaseException:
            self._lock.close()
            self._target.close()
            raise

    @classmethod
    def open(cls, cgroup: Path, bpffs: Path, program: Path = OBJECT) -> "Datapath":
        """Load `program` and attach it at `cgroup`, or put it in the place of what is pinned in `bpffs`.

        Pods that are captured stay so throughout. Raises DatapathError.
        """
        if lack := features.missing():
            raise DatapathError(lack)
        if not features.on_cgroup2(cgroup):
            raise DatapathError(f"{cgroup} is no cgroup v2 directory: make one where cgroup2 is mounted")
        if not features.on_bpffs(bpffs):
            raise DatapathError(f"{bpffs} is not in a bpffs: mount -t bpf bpf /sys/fs/bpf")
        with _told(f"redirection at {cgroup}"):
            return cls(cgroup, bpffs, program)

    def trust_tunnel(self, pid: int) -> None:
        """Take all processes of this process' cgroup for the tunnel; cgroups that are gone are dropped.

        Raises DatapathError when the process is gone, or is in a cgroup that no program is attached to.
        """
        path = cgroup_of(pid, self._cgroup)
        tunnels = self._maps["tunnels"]
        with self._doing(f"tunnel {pid}"):
            for known in list(tunnels):
                if not cgroup_exists(self._cgroup, unpack_number(known)):
                    tunnels.delete(known)
            tunnels.put(pack_number(path.stat().st_ino), pid.to_bytes(4, sys.byteorder))

    def trust_kubelet(self, cgroup: Path) -> None:
        """Take what processes of this cgroup connect to for the kubelet's probes; of no other any more.

        Not those of cgroups below it, which may be the pods'. Raises DatapathError.
        """
        kubelets = self._maps["kubelets"]
        with self._doing(f"kubelet's cgroup {cgroup}"):
            if not (cgroup / "cgroup.events").exists():  # which every cgroup has but the root
                raise DatapathError(f"{cgroup} is no cgroup of the kubelet's own: start it in one")
            if not cgroup.resolve().is_relative_to(self._cgroup.resolve()):
                raise DatapathError(
                    f"{cgroup} is not below {self._cgroup}: no program sees the kubelet's probes"
                )
            key = pack_number(cgroup.stat().st_ino)
            kubelets.put(key, bytes(4))
            for known in set(kubelets) - {key}:
                kubelets.delete(known)

    def let_probes(self, cookie: Cookie, ports: Collection[int]) -> None:
        """Let the kubelet in, in the clear, on exactly these ports of a pod. They are TCP ports.

        The tunnel's own ports are left out. Raises DatapathError, also for more than 32.
        """
        wanted = sorted(set(ports) - RESERVED)
        if len(wanted) > PROBE_PORTS:
            raise DatapathError(f"pod {cookie} has {len(wanted)} ports for probes: {PROBE_PORTS} at most")
        with self._doing(f"pod {cookie}"), self._changing(cookie) as pod:
            pod.probe_ports[:] = wanted + [0] * (PROBE_PORTS - len(wanted))

    def prepare(self, netns: NetnsFd, addresses: Sequence[Address]) -> Cookie:
        """Make a pod known: its addresses are its own from now on, the tunnel can listen in it.

        Nothing is captured yet. Of a pod that is known already, captured or not, only the addresses change.
        Raises DatapathError.
        """
        cookie = Cookie(netns.cookie())
        key = pack_number(cookie)
        with self._doing(f"pod {cookie}"):
            present = self._maps["pods"].get(key)
            pod = Pod.from_buffer_copy(present) if present else Pod()
            for version, shown in ((4, pod.v4), (6, pod.v6)):
                first = next((pack_address(a) for a in addresses if a.version == version), bytes(16))
                shown[:] = first
            self._maps["pods"].put(key, bytes(pod))
            self._own(cookie, {pack_address(address) for address in addresses})
        return cookie

    def capture(self, netns: NetnsFd, cookie: Cookie) -> None:
        """Redirect the pod's new connections, both ways; without a tunnel they are refused.

        Routing comes before: without its prefix a source port serves one IPv6 connection at a time.
        Raises DatapathError.
        """
        with self._doing(f"pod {cookie}"):
            link = self._pins.pod(cookie)
            if link is None or link.info().target.netns.netns_ino == 0:
                program = self._program
                link = Link.create(program.program(INBOUND), netns.fileno(), program.attach_type(INBOUND))
                self._pins.pin_pod(cookie, link)
            prefix = POD_PREFIX if routing.has_prefix(netns) else 0
            with self._changing(cookie) as pod:
                pod.flags = POD_CAPTURED | prefix

    def release(self, cookie: Cookie) -> None:
        """Capture no new connection any more; those that are there stay with the tunnel.

        Raises DatapathError.
        """
        with self._doing(f"pod {cookie}"):
            if self._maps["pods"].get(pack_number(cookie)):
                with self._changing(cookie) as pod:
                    pod.flags = 0
            self._pins.unpin_pod(cookie)

    def forget(self, cookie: Cookie) -> None:
        """Remove all that is known of a pod; of one that is not known too. Raises DatapathError."""
        with self._doing(f"pod {cookie}"):
            self._maps["pods"].delete(pack_number(cookie))
            self._pins.unpin_pod(cookie)
            self._own(cookie, set())

    def carries(self, netns: NetnsFd) -> bool:
        """Whether a tunnel still has connections in a pod; where the kernel does not tell, it has none.

        Raises DatapathError.
        """
        with self._doing("connections of a pod"):
            tunnels = {unpack_number(key) for key in self._maps["tunnels"]}
            try:
                return netns.run(lambda: carries(tunnels))
            except FileNotFoundError:
                return False

    def pods(self) -> dict[Cookie, PodState]:
        """The pods that the kernel knows, as it treats them now. Raises DatapathError."""
        with self._doing("pods"):
            return state.pods(self._pins, self._maps)

    def audit(self, subjects: Mapping[Cookie, Subject]) -> dict[Cookie, list[Finding]]:
        """What is wrong with pods that are to be captured; nothing of those that are well.

        Raises DatapathError.
        """
        with self._doing("pods"):
            states = state.pods(self._pins, self._maps, subjects)
            tunnels = {unpack_number(key) for key in self._maps["tunnels"]}
            return audit(subjects, states, tunnels, self._cgroup)

    def restore(self) -> list[str]:
        """Put back what somebody detached from the cgroup or unpinned; the names of the programs.

        Pods' own are put back by `capture`. Raises DatapathError.
        """
        with self._doing("programs"):
            return self._pins.restore(self._target.fd, self._program, self._maps)

    def verdicts(self) -> dict[str, int]:
        """How often each verdict was given, by its name. Raises DatapathError."""
        with self._doing("verdicts"):
            return state.verdicts(self._maps["verdicts"])

    def fill(self, age: float = _COUNTED_FOR) -> dict[str, tuple[int, int]]:
        """Of each map that can be full: its entries, and how many there can be. Raises DatapathError.

        age: seconds since they were counted, at most; no kernel tells their number, each is a system call.
        """
        with self._doing("maps"):
            if time.monotonic() - self._counted > age:
                bounded = {name: one for name, one in self._maps.items() if one.info.type in state.BOUNDED}
                self._fill = {name: state.fill(one) for name, one in bounded.items()}
                self._counted = time.monotonic()
            return self._fill

    def cost(self) -> Cost:
        """What the mesh has taken of this node's CPUs. Raises DatapathError."""
        with self._doing("CPU time"):
            program = self._program
            tunnels = (unpack_number(key) for key in self._maps["tunnels"])
            return Cost(
                time.process_time(),
                {str(tunnel): cpu_seconds(self._cgroup, tunnel) for tunnel in tunnels},
                {name: Runs(*runs(program.program(name))) for name in program.programs},
            )

    def close(self) -> None:
        """Let another agent take over. What is pinned goes on."""
        for present in self._maps.values():
            present.close()
        self._target.close()
        self._lock.close()

    @staticmethod
    def remove(bpffs: Path) -> None:
        """Take all programs, maps and links away. Raises DatapathError, also while an agent runs."""
        if not bpffs.exists():
            return
        with _told(str(bpffs)):
            directory = exclusive(bpffs)
            Pins(bpffs).remove()
            directory.close()

    @contextlib.contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        """One thing at a time, whichever threads call."""
        with self._one_at_a_time, _told(what):
            yield

    def _own(self, cookie: Cookie, addresses: set[bytes]) -> None:
        """Make exactly these addresses the pod's. An address that another pod has meanwhile stays there."""
        owners = self._maps["addresses"]
        key = pack_number(cookie)
        for address in addresses:
            owners.put(address, key)
        for address, owner in owners.items():
            if owner == key and address not in addresses:
                owners.delete(address)

    @contextlib.contextmanager
    def _changing(self, cookie: Cookie) -> Iterator[Pod]:
        """What the kernel knows of a pod, for changes that it sees all at once."""
        key = pack_number(cookie)
        present = self._maps["pods"].get(key)
        if present is None:
            raise DatapathError(f"pod {cookie} is not prepared")
        pod = Pod.from_buffer_copy(present)
        yield pod
        self._maps["pods"].put(key, bytes(pod))


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever goes wrong is a DatapathError that says with what."""
    try:
        yield
    except BpfError as error:
        raise DatapathError(str(error)) from error
    except OSError as error:
        raise DatapathError(f"{what}: {describe(error)}") from error
