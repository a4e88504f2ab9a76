"""`warren why --try`: make the connection inside the pod, as its own processes would, and time each phase.

A child process enters the pod's cgroup, network and mount namespace (for its resolver); it ends with the
attempt. Only root may.
"""

import ctypes
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from agent.cli.admin_client import NoTunnel, ask
from agent.cli.attempted import Attempted, Phase
from agent.errors import SettingsError
from protocols.admin import Flows, Why
from protocols.agent import PodState
from protocols.record import record

_TIMEOUT = 5.0  # seconds, of each phase
_SILENCE = 0.5  # seconds in which a refusal would have come, of a server that does not speak first
_TOLD_WITHIN = 1.0  # seconds for the tunnel to record it
_TLS_PORT = 443
_libc = ctypes.CDLL(None, use_errno=True)


class Wish(Struct, frozen=True):
    """What is to be tried; the last three: of a request."""

    host: str
    port: int | None
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]


class Failed(Exception):
    """Of a phase, in words."""


def make(said: Why, state: PodState | None, tunnel: str, wish: Wish) -> Attempted:
    """Raises SettingsError where it cannot be made from here."""
    if os.geteuid() != 0:
        raise SettingsError("--try enters the pod: run it as root")
    if state is None or not state.netns:
        raise SettingsError(f"--try: the agent does not say where {said.source.name} runs; is it captured?")
    port = wish.port or said.ports[0].port
    of_port = next((one for one in said.ports if one.port == port), said.ports[0])
    request = _request(said, wish) if of_port.routes is not None or _is_request(wish) else b""
    before = _last(tunnel)
    answer = _inside(Path(state.netns), lambda: _phases(_host(said, wish), port, request))
    phases, own = msgspec.json.decode(answer, type=tuple[list[Phase], int])
    failed = any(phase.error for phase in phases)
    return Attempted(phases, _reason(tunnel, before, own, said.source.name) if failed else "")


def _is_request(wish: Wish) -> bool:
    return (wish.method, wish.path, wish.headers) != ("GET", "/", ())


def _host(said: Why, wish: Wish) -> str:
    """As the pod would call it."""
    destination = said.destination
    if destination.kind == "service":
        return destination.name.partition("/")[2] if "/" in wish.host else wish.host
    return destination.addresses[0] if destination.addresses else wish.host


def _request(said: Why, wish: Wish) -> bytes:
    given = {name.lower(): value for name, value in wish.headers}
    fields = {"host": _host(said, wish), "user-agent": "warren-why", "connection": "close", **given}
    lines = [f"{wish.method} {wish.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _inside(netns: Path, action: Callable[[], bytes]) -> bytes:
    """What `action` gives in a child process inside the pod. Raises SettingsError."""
    pid = _process(netns)
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            said = answer.read()
        os.waitpid(child, 0)
        if not said.startswith(b"+"):
            raise SettingsError(f"--try: cannot enter the pod: {said.decode() or 'the child process ended'}")
        return said[1:]
    try:
        os.close(reading)
        try:
            _enter(netns, pid)
            said = b"+" + action()
        except OSError as error:
            said = str(error).encode()
        os.write(writing, said)
    finally:
        os._exit(0)


def _process(netns: Path) -> int:
    """One of the pod's."""
    inode = netns.stat().st_ino
    for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with suppress(OSError):
            if (entry / "ns/net").stat().st_ino == inode:
                return int(entry.name)
    raise SettingsError("--try: the pod has no process that can be seen from here (hostPID?)")


def _enter(netns: Path, pid: int) -> None:
    place = Path(f"/proc/{pid}")
    mounts = os.open(place / "ns/mnt", os.O_RDONLY)
    network = os.open(netns, os.O_RDONLY)
    (_cgroup(place) / "cgroup.procs").write_text(str(os.getpid()))
    for descriptor in (network, mounts):
        if _libc.setns(descriptor, 0):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


def _cgroup(place: Path) -> Path:
    """Of a process, in the cgroup v2 hierarchy."""
    [own] = [line[3:] for line in (place / "cgroup").read_text().splitlines() if line.startswith("0::")]
    mounts = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    [at, *_] = [left.split()[4] for left, right in mounts if right.startswith("cgroup2 ")]
    return Path(at) / own.lstrip("/")


def _phases(host: str, port: int, request: bytes) -> bytes:
    """The phases, and the port from which it was connected, as JSON."""
    found: list[Phase] = []
    own = [0]
    with suppress(Failed):
        for phase in _each(host, port, request, own):
            found.append(phase)
            if phase.error:
                break
    return msgspec.json.encode((found, own[0]))


def _each(host: str, port: int, request: bytes, own: list[int]) -> Iterator[Phase]:
    addresses: list[tuple[int, tuple[str, int]]] = []

    def resolve() -> str:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses.extend((family, (str(to[0]), port)) for family, _, _, _, to in found)
        return ", ".join(dict.fromkeys(address[0] for _, address in addresses))

    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
        addresses.append((socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port)))
    except OSError:
        yield _timed("dns", resolve)
    if not addresses:
        return
    family, address = addresses[0]
    with closing(socket.socket(family)) as plain:
        plain.settimeout(_TIMEOUT)
        plain.bind(("", 0))  # by its port the tunnel's record is found, also of one that is refused
        own[0] = plain.getsockname()[1]

        def connect() -> str:
            plain.connect(address)
            return f"{address[0]} port {port}"

        yield _timed("connect", connect)
        stream = [plain]
        if port == _TLS_PORT:
            yield _timed("tls", lambda: _encrypt(stream, host))
        yield _timed("first byte" if request else "open", lambda: _talk(stream[0], request))


def _timed(name: str, action: Callable[[], str]) -> Phase:
    began = time.monotonic()

    def took() -> float:
        return (time.monotonic() - began) * 1000

    try:
        return Phase(name, result=action(), milliseconds=took())
    except TimeoutError:
        return Phase(name, took(), error=f"no answer within {_TIMEOUT:g} s")
    except Failed as error:
        return Phase(name, took(), error=str(error))
    except OSError as error:
        return Phase(name, took(), error=(error.strerror or str(error)).lower())


def _encrypt(stream: list[socket.socket], host: str) -> str:
    """The application's own TLS; whom it names is not checked here."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    wrapped = context.wrap_socket(stream[0], server_hostname=host)
    stream[0] = wrapped
    return wrapped.version() or ""


def _talk(stream: socket.socket, request: bytes) -> str:
    """The first line of the answer, or that the connection stays open. Raises Failed, OSError."""
    if request:
        stream.sendall(request)
        line = stream.makefile("rb").readline(512).decode(errors="replace").strip()
        if not line:
            raise Failed("closed without an answer")
        status = line.split(" ")[1] if line.startswith("HTTP/") else ""
        if status.startswith("5") or status in ("403", "404"):
            raise Failed(line)
        return line
    stream.settimeout(_SILENCE)
    try:
        if not stream.recv(1):
            raise Failed("closed by the other end")
    except TimeoutError:
        return "stays open; the server waits for the client to speak"
    return "the server speaks"


def _last(tunnel: str) -> int:
    with suppress(NoTunnel):
        return ask(tunnel, "/flows", Flows, {"after": "end"}).last
    return 0


def _reason(tunnel: str, before: int, own: int, source: str) -> str:
    """What the tunnel has recorded of our connection, or of the source's last request."""
    end = time.monotonic() + _TOLD_WITHIN
    while True:
        with suppress(NoTunnel):
            told = [record(one) for one in ask(tunnel, "/flows", Flows, {"after": before}).flows]
            ours = [one for one in told if one.source_address.endswith(f":{own}") and one.error]
            requests = [one for one in told if one.is_request and one.source == source]
            if ours:
                return f"{ours[-1].error} ({ours[-1].reason})"
            if requests:
                return f"{requests[-1].response_code} {requests[-1].response_flags}"
        if time.monotonic() > end:
            return ""
        time.sleep(0.05)
