"""Services that proxies ask about requests, by Envoy's protocols. The functions run in a Resident.

The authorizers are as Istio's sample (samples/extauthz): `x-ext-authz: allow` is let on.
"""

import json
import os
import socket
import subprocess
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc

from tests.support.wait import until

_ratelimit, _ratelimit_services = grpc.protos_and_services("tests/support/envoy_api/ratelimit.proto")
_auth, _auth_services = grpc.protos_and_services("tests/support/envoy_api/authorization.proto")

SECONDS = {1: 1, 2: 60, 3: 3600, 4: 86400}
_HEADER, _RESULT = "x-ext-authz", "x-ext-authz-check-result"
_servers: dict[int, Any] = {}
_lock = threading.Lock()
_counts: defaultdict[int, Counter[str]] = defaultdict(Counter)  # by window
_checked: list[dict[str, Any]] = []
_asked: list[dict[str, str]] = []


class _Limiter(_ratelimit_services.RateLimitServiceServicer):  # type: ignore[name-defined, misc]
    """Counts in windows, by the limit that each descriptor brings."""

    def ShouldRateLimit(self, request: Any, context: Any) -> Any:
        answer = _ratelimit.RateLimitResponse(overall_code=_ratelimit.OK)
        for descriptor in request.descriptors:
            status = _status(request.domain, descriptor, time.time())
            answer.statuses.append(status)
            if status.code == _ratelimit.OVER_LIMIT:
                answer.overall_code = _ratelimit.OVER_LIMIT
        answer.response_headers_to_add.add(key="x-limiter", value=request.domain)
        return answer


def _status(domain: str, descriptor: Any, now: float) -> Any:
    unit = SECONDS[descriptor.limit.unit]
    entries = "|".join(f"{one.key}={one.value}" for one in descriptor.entries)
    with _lock:
        window = _counts[int(now) // unit * unit]
        window[f"{domain}|{entries}"] += max(descriptor.hits_addend.value, 1)
        count = window[f"{domain}|{entries}"]
    limit = descriptor.limit.requests_per_unit
    status = _ratelimit.RateLimitResponse.DescriptorStatus(
        code=_ratelimit.OK if count <= limit else _ratelimit.OVER_LIMIT,
        current_limit=descriptor.limit,
        limit_remaining=max(limit - count, 0),
    )
    status.duration_until_reset.FromSeconds(unit - int(now) % unit)
    return status


class _Authorizer(_auth_services.AuthorizationServicer):  # type: ignore[name-defined, misc]
    def Check(self, request: Any, context: Any) -> Any:
        asked = request.attributes.request.http
        _checked.append(
            {
                "source": request.attributes.source.principal,
                "destination": request.attributes.destination.principal,
                "port": request.attributes.destination.address.socket_address.port_value,
                "method": asked.method,
                "path": asked.path,
                "host": asked.host,
                "headers": dict(asked.headers),
            }
        )
        answer = _auth.CheckResponse()
        if asked.headers.get(_HEADER) == "allow":
            answer.ok_response.headers.add(header={"key": _RESULT, "value": "allowed"})
            answer.ok_response.headers_to_remove.append("x-secret")
            answer.ok_response.response_headers_to_add.add(header={"key": "x-checked", "value": "yes"})
            return answer
        answer.status.code = 7
        answer.denied_response.status.code = 403
        answer.denied_response.body = "denied by ext_authz"
        answer.denied_response.headers.add(header={"key": _RESULT, "value": "denied"})
        return answer


class _HttpAuthorizer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        _asked.append({":path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
        allowed = self.headers.get(_HEADER) == "allow"
        body = b"" if allowed else b"denied in HTTP"
        self.send_response(200 if allowed else 401)
        self.send_header(_RESULT, "allowed" if allowed else "denied")
        self.send_header("x-inner", "not for others")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def serve_limiter(port: int) -> None:
    server = grpc.server(ThreadPoolExecutor(8))
    _ratelimit_services.add_RateLimitServiceServicer_to_server(_Limiter(), server)
    _start(server, port)


def serve_field_limiter(binary: str, folder: Path, port: int) -> None:
    """envoyproxy/ratelimit with Debian's Redis. What brings no limit has 7 a day."""
    config = folder / "config"
    config.mkdir()
    limit = {"unit": "day", "requests_per_unit": 7}
    (config / "shop.yaml").write_text(
        json.dumps({"domain": "shop", "descriptors": [{"key": "who", "rate_limit": limit}]})
    )
    settings = {
        **{"RUNTIME_ROOT": str(folder), "RUNTIME_SUBDIRECTORY": "", "RUNTIME_WATCH_ROOT": "false"},
        **{"REDIS_SOCKET_TYPE": "tcp", "REDIS_URL": "127.0.0.1:6379", "USE_STATSD": "false"},
        **{"GRPC_PORT": str(port), "PORT": "8083", "DEBUG_PORT": "8084", "LOG_LEVEL": "error"},
    }
    _run(["redis-server", "--bind", "127.0.0.1", "--save", ""], {})
    until(lambda: _answers(6379), what="Redis listens")
    _run([binary], settings)
    until(lambda: _answers(port), what="the limiter listens")


def _run(command: list[str], settings: dict[str, str]) -> None:
    """As long as this process."""
    ending = ["setpriv", "--pdeathsig", "KILL", *command]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(ending, env={**os.environ, **settings}, **quiet)  # type: ignore[call-overload]


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def serve_authorizer(port: int, http_port: int) -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    _auth_services.add_AuthorizationServicer_to_server(_Authorizer(), server)
    _start(server, port)
    http = ThreadingHTTPServer(("0.0.0.0", http_port), _HttpAuthorizer)
    threading.Thread(target=http.serve_forever, daemon=True).start()


def _start(server: grpc.Server, port: int) -> None:
    assert server.add_insecure_port(f"0.0.0.0:{port}") == port
    server.start()
    _servers[port] = server


def stop(port: int) -> None:
    """End a server, and the connections to it."""
    _servers.pop(port).stop(grace=None).wait()


def counted() -> Counter[str]:
    """What the limiter has counted in all, by domain and descriptor."""
    with _lock:
        return sum(_counts.values(), Counter())


def checked() -> list[dict[str, Any]]:
    """What the authorizer has been asked by gRPC; then it is forgotten."""
    said, _checked[:] = [*_checked], []
    return said


def asked() -> list[dict[str, str]]:
    """The headers with which it was asked in HTTP, and the path; then they are forgotten."""
    said, _asked[:] = [*_asked], []
    return said
