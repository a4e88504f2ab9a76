"""Whether Warren is being taken off the cluster, or its agent only restarted, moved or upgraded."""

from typing import TYPE_CHECKING

import msgspec

from agent.kube.errors import ApiError
from agent.model.schema.objects import Metadata

if TYPE_CHECKING:
    from agent.kube.client import Client


class _Object(msgspec.Struct):
    metadata: Metadata


class Installation:
    """The DaemonSet whose pod we are."""

    def __init__(self, client: "Client", daemon_set: str) -> None:
        """daemon_set: NAMESPACE/NAME."""
        self._client = client
        namespace, _, name = daemon_set.partition("/")
        self._path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"

    def removed(self) -> bool:
        """Blocking. Only an answer counts: an API server that is away, or refuses, has removed nothing."""
        try:
            body = self._client.request("GET", self._path, timeout=5)
        except ApiError as error:
            return error.status == 404
        return msgspec.json.decode(body, type=_Object).metadata.deletion_timestamp is not None
