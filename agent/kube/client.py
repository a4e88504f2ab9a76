"""Requests to an API server, with the credentials of a pod or of a kubeconfig."""

import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, urlencode

import msgspec
import urllib3
from urllib3.exceptions import HTTPError, SSLError

from agent.errors import SettingsError
from agent.kube.errors import ApiError, CredentialsError, refused, unanswered
from agent.kube.in_cluster import HOST, InCluster
from agent.kube.stream import Stream

if TYPE_CHECKING:
    from agent.kube.credentials import Session as OfKubeconfig

JSON = "application/json"
MERGE = "application/merge-patch+json"  # RFC 7396: what is given replaces what is there
_CONNECT = 10.0  # seconds

Query = Mapping[str, str]
Session: TypeAlias = "InCluster | OfKubeconfig"
NOTHING: Query = MappingProxyType({})


class Client:
    """A blocking client, for any number of threads.

    Tokens are read again when they expire, and all credentials when they are refused: what was rotated is
    picked up without a restart.
    """

    def __init__(self, open_session: Callable[[], Session]) -> None:
        """open_session: reads the credentials, now and each time that they are refused."""
        self._open = open_session
        self._renewing = threading.Lock()
        self._session = open_session()

    @classmethod
    def load(cls, kubeconfig: Path | None) -> "Client":
        """With this file; None: as a pod of the cluster, else as KUBECONFIG or ~/.kube/config say.

        Raises SettingsError.
        """
        in_pod = kubeconfig is None and HOST in os.environ
        try:
            if in_pod:
                return cls(InCluster)
            from agent.kube.credentials import Session as OfKubeconfig  # noqa: PLC0415

            return cls(partial(OfKubeconfig, kubeconfig))
        except CredentialsError as error:
            none = "as a pod of the cluster" if in_pod else "--kubeconfig is not given, and no other found"
            where = f"--kubeconfig {kubeconfig}" if kubeconfig else none
            raise SettingsError(f"{where}: {error}") from error

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query = NOTHING,
        body: object = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout: float = 30,
    ) -> bytes:
        """The answer's body. `body` is sent as JSON, `timeout` is in seconds. Raises ApiError."""
        limits = urllib3.Timeout(connect=min(_CONNECT, timeout), read=timeout)
        headers = {"accept": accept}
        if body is None:
            return self._ask(method, path, query, headers=headers, timeout=limits).data
        headers["content-type"] = content_type
        data = msgspec.json.encode(body)
        return self._ask(method, path, query, headers=headers, timeout=limits, body=data).data

    def dated(self, path: str, timeout: float = 10) -> tuple[bytes | None, str]:
        """The object at `path`, if there is one, and when the server answered, by its own clock.

        That is the Date of RFC 9110 section 6.6.1, empty where the server does not say. Raises ApiError.
        """
        limits = urllib3.Timeout(connect=min(_CONNECT, timeout), read=timeout)
        try:
            response = self._ask("GET", path, NOTHING, headers={"accept": JSON}, timeout=limits)
        except ApiError as error:
            if error.status == 404:
                return None, error.date
            raise
        return response.data, response.headers.get("date", "")

    def read(self, path: str, timeout: float = 10, query: Query = NOTHING) -> Any:
        """The object at `path`, or the list. Raises ApiError."""
        body = self.request("GET", path, query=query, timeout=timeout)
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ApiError(0, "Malformed", f"GET {path}: an answer that is not JSON: {error}") from error

    def stream(self, path: str, query: Query, idle: float, accept: str = JSON) -> Stream:
        """A watch's lines; `idle`: seconds of silence after which it counts as cut. Raises ApiError."""
        limits = urllib3.Timeout(connect=_CONNECT, read=idle)
        headers = {"accept": accept}
        response = self._ask("GET", path, query, headers=headers, timeout=limits, preload_content=False)
        return Stream(response, f"GET {path}")

    @property
    def session(self) -> Session:
        """Where the server is and who we are, as of now; for what is no plain request."""
        return self._session

    def close(self) -> None:
        """Close the connections that no request uses."""
        self._session.pool.clear()

    def _ask(self, method: str, path: str, query: Query, **how: Any) -> urllib3.BaseHTTPResponse:
        """A good answer, asked for with new credentials when the old ones are not good any more."""
        session = self._session
        try:
            return _send(session, method, path, query, **how)
        except ApiError as error:
            if error.status != 401 and not isinstance(error.__cause__, SSLError):
                raise
        return _send(self._renewed(session), method, path, query, **how)

    def _renewed(self, former: Session) -> Session:
        """The session after `former`; whoever asks first makes it."""
        with self._renewing:
            if self._session is former:
                try:
                    self._session = self._open()
                except CredentialsError as error:
                    raise unanswered("credentials", error) from error
                former.pool.clear()
            return self._session


def path_of(*steps: str) -> str:
    """A path of its steps, each of which may hold any character."""
    return "/" + "/".join(quote(step, safe="") for step in steps)


def _send(
    session: Session, method: str, path: str, query: Query, headers: Mapping[str, str], **how: Any
) -> urllib3.BaseHTTPResponse:
    request = f"{method} {path}"
    try:
        headers = {**headers, **session.headers()}
        url = session.host + path + (f"?{urlencode(query)}" if query else "")
        response = session.pool.request(method, url, headers=headers, retries=False, redirect=False, **how)
        if response.status >= 300:
            raise refused(request, response.data, response.status, response.headers)
    except (HTTPError, CredentialsError, OSError, ValueError) as error:
        raise unanswered(request, error) from error
    return response
