"""Where the API server is and who we are, by a kubeconfig: the `kubernetes` package reads it.

That package takes 15 MB and a third of a second of CPU: a client imports this when it is opened, and not in a
pod (`agent.kube.in_cluster`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import urllib3
import yaml
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import ConfigException, load_kube_config

from agent.kube.errors import CredentialsError
from agent.kube.in_cluster import CONNECTIONS


class Session:
    """One reading of the credentials, and the connections made with its certificates."""

    def __init__(self, kubeconfig: Path | None) -> None:
        """None: where KUBECONFIG or ~/.kube/config say. Raises CredentialsError."""
        with _readable():
            configuration = Configuration()
            configuration.keep_alive = True  # a peer that vanished is found out within minutes
            configuration.connection_pool_maxsize = CONNECTIONS
            file = str(kubeconfig) if kubeconfig else None
            load_kube_config(config_file=file, client_configuration=configuration)
            self.pool: urllib3.PoolManager = RESTClientObject(configuration).pool_manager
        self.host: str = configuration.host
        self.configuration = configuration

    def headers(self) -> dict[str, str]:
        """Who we are, with a token that is read again when it expires. Raises CredentialsError."""
        with _readable():
            token = self.configuration.get_api_key_with_prefix("BearerToken")
        return {"user-agent": "warren"} | ({"authorization": token} if token else {})


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (ConfigException, OSError, yaml.YAMLError, TypeError, ValueError) as error:
        raise CredentialsError(" ".join(str(error).split())) from error
