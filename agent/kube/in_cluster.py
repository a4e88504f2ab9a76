"""A pod's way to its API server: what the kubelet gives to each container.

Two variables say where the server is, two files of the service account how to know it and who we are: the
rules are client-go's (`rest.InClusterConfig`). The `kubernetes` package knows them, too; it takes 15 MB.
"""

import math
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection

from agent.errors import describe
from agent.kube.errors import CredentialsError

HOST, PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECTIONS = 64  # kept open: one for each kind that is watched, and some
# Seconds. A kubelet replaces a token when a fifth of its life is left, 12 minutes at least.
_READ_EVERY = 60.0
# A peer that vanished is found out within minutes.
_KEEPALIVE = [
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 30),
]


class InCluster:
    """One reading of the files, and the connections made with it. As `agent.kube.credentials.Session`."""

    def __init__(self) -> None:
        """Raises CredentialsError."""
        host, port = os.environ[HOST], os.environ.get(PORT, "443")
        self.host = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self._read, self._token = -math.inf, ""
        with _readable():
            context = ssl.create_default_context(cafile=FOLDER / "ca.crt")
        self.headers()
        self.pool = urllib3.PoolManager(maxsize=CONNECTIONS, ssl_context=context, socket_options=_KEEPALIVE)

    @property
    def configuration(self) -> Any:
        """The package's own, for what it connects itself. Raises CredentialsError."""
        from kubernetes.client import Configuration  # noqa: PLC0415
        from kubernetes.config import ConfigException, load_incluster_config  # noqa: PLC0415

        made = Configuration()
        try:
            load_incluster_config(client_configuration=made)
        except ConfigException as error:
            raise CredentialsError(f"{FOLDER}: {error}") from error
        return made

    def headers(self) -> dict[str, str]:
        """Who we are, with a token that is read again every minute. Raises CredentialsError."""
        if (now := time.monotonic()) - self._read > _READ_EVERY:
            with _readable():
                token = (FOLDER / "token").read_text().strip()
            if not token:
                raise CredentialsError(
                    f"{FOLDER / 'token'} is empty: is a token mounted into this container?"
                )
            self._read, self._token = now, token
        return {"user-agent": "warren", "authorization": f"Bearer {self._token}"}


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        what = describe(error) if isinstance(error, OSError) else str(error)
        raise CredentialsError(f"{FOLDER}: {what}: is a service account's token mounted here?") from error
