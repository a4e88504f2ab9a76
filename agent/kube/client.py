"""Requests to an API server. The `kubernetes` package finds it and the credentials, and connects."""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
import urllib3
import yaml
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.config.incluster_config import SERVICE_HOST_ENV_NAME
from urllib3.exceptions import HTTPError, SSLError

from agent.errors import SettingsError
from agent.kube.errors import ApiError, refused, unanswered
from agent.kube.stream import Stream

JSON = "application/json"
MERGE = "application/merge-patch+json"  # RFC 7396: what is given replaces what is there
_CONNECT = 10.0  # seconds
_CONNECTIONS = 64  # kept open: one for each kind that is watched, and some

Query = Mapping[str, str]
NOTHING: Query = MappingProxyType({})


class _Session(NamedTuple):
    """One reading of the credentials, and the connections made with its certificates."""

    configuration: Any
    pool: urllib3.PoolManager


class Client:
    """A blocking client, for any number of threads.

    Tokens are read again when they expire, and all credentials when they are refused: what was rotated is
    picked up without a restart.
    """

    def __init__(self, read: Callable[[Any], None]) -> None:
        """read: fills in a `Configuration`, now and each time that credentials are refused."""
        self._read = read
        self._renewing = threading.Lock()
        self._session = self._open()

    @classmethod
    def load(cls, kubeconfig: Path | None) -> "Client":
        """With this file; None: as a pod of the cluster, else as KUBECONFIG or ~/.kube/config say.

        Raises SettingsError.
        """

        def read(configuration: Any) -> None:
            if kubeconfig is None and SERVICE_HOST_ENV_NAME in os.environ:
                load_incluster_config(client_configuration=configuration)
            else:
                file = str(kubeconfig) if kubeconfig else None
                load_kube_config(config_file=file, client_configuration=configuration)

        try:
            return cls(read)
        except (ConfigException, OSError, yaml.YAMLError, TypeError, ValueError) as error:
            where = (
                f"--kubeconfig {kubeconfig}"
                if kubeconfig
                else "--kubeconfig is not given, and no other found"
            )
            raise SettingsError(f"{where}: {' '.join(str(error).split())}") from error

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

    def _renewed(self, former: _Session) -> _Session:
        """The session after `former`; whoever asks first makes it."""
        with self._renewing:
            if self._session is former:
                try:
                    self._session = self._open()
                except (ConfigException, OSError, yaml.YAMLError, TypeError, ValueError) as error:
                    raise unanswered("credentials", error) from error
                former.pool.clear()
            return self._session

    def _open(self) -> _Session:
        configuration = Configuration()
        configuration.keep_alive = True  # a peer that vanished is found out within minutes
        configuration.connection_pool_maxsize = _CONNECTIONS
        self._read(configuration)
        return _Session(configuration, RESTClientObject(configuration).pool_manager)


def path_of(*steps: str) -> str:
    """A path of its steps, each of which may hold any character."""
    return "/" + "/".join(quote(step, safe="") for step in steps)


def _send(
    session: _Session, method: str, path: str, query: Query, headers: Mapping[str, str], **how: Any
) -> urllib3.BaseHTTPResponse:
    request = f"{method} {path}"
    try:
        token = session.configuration.get_api_key_with_prefix("BearerToken")
        headers = {**headers, "user-agent": "warren"} | ({"authorization": token} if token else {})
        url = session.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        response = session.pool.request(method, url, headers=headers, retries=False, redirect=False, **how)
        if response.status >= 300:
            raise refused(request, response.data, response.status, response.headers)
    except (HTTPError, ConfigException, OSError, ValueError) as error:
        raise unanswered(request, error) from error
    return response
