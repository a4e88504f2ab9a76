"""A command in a container, through the API server: pods/exec over WebSocket, with the user's credentials.

Sub-protocols v5.channel.k8s.io and v4.channel.k8s.io: KEP-4006, and the API's reference of pods/exec.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlencode

import msgspec
from kubernetes.stream.ws_client import ERROR_CHANNEL, WSClient
from websocket import WebSocketBadStatusException, WebSocketException

from agent.kube.client import Client, path_of
from agent.kube.errors import ApiError, refused, unanswered

_WAIT = 3600.0  # seconds for the next output; a broken connection is found out before


def run(
    client: Client,
    where: tuple[str, str, str],
    argv: Sequence[str],
    out: Callable[[bytes], object],
    err: Callable[[bytes], object],
    *,
    tty: bool = False,
) -> int:
    """The command's exit code, after all of its output. where: namespace, pod, container.

    tty: as in a terminal; its error output comes with the rest. Raises ApiError.
    """
    namespace, pod, container = where
    path = path_of("api", "v1", "namespaces", namespace, "pods", pod, "exec")
    flags = {
        "container": container,
        "stdout": "true",
        "stderr": str(not tty).lower(),
        "tty": str(tty).lower(),
    }
    query = urlencode([*flags.items(), *(("command", word) for word in argv)])
    request = f"GET {path}"
    try:
        with _opened(client, f"{path}?{query}") as stream:
            while stream.is_open():
                stream.update(timeout=_WAIT)
                _pass_on(stream, out, err)
            _pass_on(stream, out, err)
    except WebSocketBadStatusException as error:
        raise refused(request, error.resp_body or b"", error.status_code or 0) from error
    except (WebSocketException, OSError) as error:
        raise unanswered(request, error) from error
    return exit_code(request, stream.read_channel(ERROR_CHANNEL))


def exit_code(request: str, told: str | bytes) -> int:
    """Of the Status that ends the stream. Raises ApiError where the command could not be run."""
    data = told.encode() if isinstance(told, str) else told
    if not data:
        raise ApiError(0, "Ended", f"{request}: the connection was cut before the command ended")
    status: Mapping[str, object] = msgspec.json.decode(data, type=dict[str, object])
    if status.get("status") == "Success":
        return 0
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    for cause in causes or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise refused(request, data)


@contextlib.contextmanager
def _opened(client: Client, target: str) -> Iterator[WSClient]:
    session = client.session
    url = session.host.replace("http", "ws", 1) + target
    stream = WSClient(session.configuration, url, session.headers(), capture_all=False, binary=True)
    try:
        yield stream
    finally:
        stream.sock.shutdown()  # its close() leaves the socket open where the server closed first


def _pass_on(stream: WSClient, out: Callable[[bytes], object], err: Callable[[bytes], object]) -> None:
    if data := stream.read_stdout(timeout=0):
        out(data)
    if data := stream.read_stderr(timeout=0):
        err(data)
