"""An API server that has pods and runs what is executed in them: the real protocol, on this machine.

Sub-protocols v5.channel.k8s.io and v4.channel.k8s.io as k8s.io/apimachinery/pkg/util/remotecommand has them:
a byte for the channel before each frame, 1 output, 2 errors, 3 the Status that ends it.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from aiohttp import WSMsgType, web

TOKEN = "who-i-am"
Command = tuple[Sequence[str], Mapping[str, str] | None]


class ExecServer:
    """Serves until it is closed. command: what is run for the words that are executed in a pod."""

    def __init__(self, folder: Path, pods: list[dict[str, Any]], command: Callable[[str, list[str]], Command],
                 protocols: Sequence[str] = ("v5.channel.k8s.io", "v4.channel.k8s.io")) -> None:  # fmt: skip
        self._pods, self._command, self._protocols = pods, command, protocols
        self.executed: list[tuple[str, list[str]]] = []
        self.objects: dict[str, dict[str, Any]] = {}  # others, by path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "me", "user": {"token": TOKEN}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
        }))  # fmt: skip

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> int:
        app = web.Application()
        app.router.add_get("/api/v1/namespaces/{namespace}/pods", self._list)
        app.router.add_get("/api/v1/namespaces/{namespace}/pods/{pod}/exec", self._exec)
        app.router.add_get("/{path:.*}", self._other)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def _list(self, request: web.Request) -> web.Response:
        """Selectors of the form name=value."""
        wanted = dict(one.split("=") for one in request.query["labelSelector"].split(","))
        found = [
            pod
            for pod in self._pods
            if pod["metadata"]["namespace"] == request.match_info["namespace"]
            and wanted.items() <= pod["metadata"]["labels"].items()
        ]
        return web.json_response({"kind": "PodList", "items": found})

    async def _other(self, request: web.Request) -> web.Response:
        if found := self.objects.get(request.path):
            return web.json_response(found)
        return _status(404, "NotFound", f"{request.path} not found")

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _status(401, "Unauthorized", "Unauthorized")
        pod, words = request.match_info["pod"], request.query.getall("command")
        if not any(one["metadata"]["name"] == pod for one in self._pods):
            return _status(404, "NotFound", f'pods "{pod}" not found')
        self.executed.append((pod, words))
        socket = web.WebSocketResponse(protocols=self._protocols)
        await socket.prepare(request)
        argv, environment = self._command(pod, words)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*argv, env=environment, stdout=pipe, stderr=pipe)
        gone = asyncio.create_task(_gone(socket, process))
        await asyncio.gather(_copy(process.stdout, socket, 1), _copy(process.stderr, socket, 2))
        code = await process.wait()
        gone.cancel()
        cause = {"reason": "ExitCode", "message": str(code)}
        failure = {
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": "it failed",
            "details": {"causes": [cause]},
        }
        if not socket.closed:
            await socket.send_bytes(b"\3" + json.dumps(failure if code else {"status": "Success"}).encode())
            await socket.close()
        return socket


async def _gone(socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
    async for message in socket:
        if message.type in (WSMsgType.CLOSE, WSMsgType.ERROR):
            break
    process.terminate()


async def _copy(stream: asyncio.StreamReader | None, socket: web.WebSocketResponse, channel: int) -> None:
    while stream and (data := await stream.read(4096)):
        if not socket.closed:
            await socket.send_bytes(bytes([channel]) + data)


def _status(code: int, reason: str, message: str) -> web.Response:
    told = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(told, status=code)


def pod(name: str, namespace: str, node: str, **labels: str) -> dict[str, Any]:
    """One that runs."""
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": "Running"}}
