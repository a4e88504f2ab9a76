"""A real containerd with its CRI, all of it in a folder, a network namespace and cgroups of the test's.

Its pods' only image is a program that sleeps, built here: no registry is asked.
"""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from protocols import cri_pb2 as cri
from tests.support.netns import Node, Pod
from tests.support.wait import until

_PLUGINS = Path("/usr/lib/cni")  # Debian's
_IMAGE = "warren.test/pause:1"
_SLEEP = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
_CONFIG = """
version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{root}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
netns_mounts_under_state_dir = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{root}/bin"
conf_dir = "{root}/net.d"
"""


class Containerd:
    """Start it with `running`, once its folders are as they should be."""

    def __init__(self, node: Node, root: Path) -> None:
        """root: a folder with a short path, for the sockets in it."""
        self.root = root
        self.socket, self.conf, self.bin = (self.root / name for name in ("containerd.sock", "net.d", "bin"))
        self._cgroup = node.make_cgroup("containerd")
        # The same in every hierarchy.
        self._pods_cgroup = "/" + str((node.cgroup / "pods").relative_to(_cgroup_root(node.cgroup)))
        self._channel: grpc.aio.Channel | None = None
        self.conf.mkdir()
        shutil.copytree(_PLUGINS, self.bin, symlinks=True)
        self._network()
        (self.root / "config.toml").write_text(_CONFIG.format(root=self.root, image=_IMAGE))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Containerd"]:
        """With all that it started gone afterwards."""
        log = (self.root / "log").open("w")
        enter = f"ip link set lo up && echo $$ > {self._cgroup}/cgroup.procs"
        command = f"{enter} && exec containerd --config {self.root}/config.toml"
        process = await asyncio.create_subprocess_exec(
            "unshare", "--net", "sh", "-c", command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            async with grpc.aio.insecure_channel(f"unix:{self.socket}") as self._channel:
                await self._answers(process)
                await asyncio.to_thread(self._import_image)
                yield self
        finally:
            await asyncio.to_thread(self._kill)
            await process.wait()
            log.close()
            self._clean()

    async def run(self, pod: Pod) -> str:
        """Start the sandbox of a pod, as the kubelet does first; gives its id. Raises AioRpcError."""
        metadata = cri.PodSandboxMetadata(name=pod.name, uid=f"uid-{pod.name}", namespace="default")
        linux = cri.LinuxPodSandboxConfig(cgroup_parent=self._pods_cgroup)
        config = cri.PodSandboxConfig(metadata=metadata, linux=linux)
        response = await self._ask("RunPodSandbox", cri.RunPodSandboxRequest(config=config))
        return str(response.pod_sandbox_id)

    async def stop(self, sandbox: str) -> None:
        """End a sandbox, and forget it."""
        await self._ask("StopPodSandbox", cri.StopPodSandboxRequest(pod_sandbox_id=sandbox))
        await self._ask("RemovePodSandbox", cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox))

    async def status(self, sandbox: str) -> Any:
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox, verbose=True)
        return await self._ask("PodSandboxStatus", request)

    async def _ask(self, method: str, request: Message) -> Any:
        assert self._channel
        call = self._channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}",
            type(request).SerializeToString,
            getattr(cri, f"{method}Response").FromString,
        )
        return await call(request, timeout=60)

    async def _answers(self, process: asyncio.subprocess.Process) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    await self._ask("ListPodSandbox", cri.ListPodSandboxRequest())
                    return
                except grpc.aio.AioRpcError:
                    assert process.returncode is None, (self.root / "log").read_text()
                    await asyncio.sleep(0.05)

    def _network(self) -> None:
        ranges = [[{"subnet": "10.211.0.0/24"}], [{"subnet": "fd97::/64"}]]
        ipam = {"type": "host-local", "dataDir": str(self.root / "ipam"), "ranges": ranges}
        content = {"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "ptp", "ipam": ipam}]}
        (self.conf / "10-net.conflist").write_text(json.dumps(content))

    def _import_image(self) -> None:
        (self.root / "pause.c").write_text(_SLEEP)
        subprocess.run(["cc", "-static", "-o", self.root / "pause", self.root / "pause.c"], check=True)
        layer = _tar({"pause": (self.root / "pause").read_bytes()})
        digest = "sha256:" + hashlib.sha256(layer).hexdigest()
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
        manifest = [{"Config": "config.json", "RepoTags": [_IMAGE], "Layers": ["layer.tar"]}]
        files = {"config.json": config, "manifest.json": manifest}
        image = {name: json.dumps(content).encode() for name, content in files.items()}
        (self.root / "image.tar").write_bytes(_tar({**image, "layer.tar": layer}))
        ctr = f"ctr --address {self.socket} --namespace k8s.io images import --snapshotter native"
        subprocess.run([*ctr.split(), self.root / "image.tar"], check=True, capture_output=True)

    def _kill(self) -> None:
        """All processes of the runtime and of its pods."""
        for cgroup in (self._cgroup, self._cgroup.with_name("pods")):
            if cgroup.exists():
                (cgroup / "cgroup.kill").write_text("1")
                until(partial(_empty, cgroup), what="processes end")

    def _clean(self) -> None:
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((mount for mount in mounts if mount.startswith(f"{self.root}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=True)
        for hierarchy in set(_hierarchies()) - {
            _cgroup_root(self._cgroup)
        }:  # that one is the node's to clean
            for directory, _, _ in os.walk(f"{hierarchy}{self._pods_cgroup}", topdown=False):
                Path(directory).rmdir()
            for parent in list(Path(self._pods_cgroup).parents)[:-1]:
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{hierarchy}{parent}").rmdir()


def _tar(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def _empty(cgroup: Path) -> bool:
    return "populated 0" in (cgroup / "cgroup.events").read_text()


def _hierarchies() -> list[Path]:
    """Of both versions."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return [Path(point) for _, point, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]


def _cgroup_root(cgroup: Path) -> Path:
    return next(path for path in _hierarchies() if cgroup.is_relative_to(path))
