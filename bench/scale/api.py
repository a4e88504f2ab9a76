"""Requests to an API server, many at a time."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from kubernetes.client import Configuration
from kubernetes.config import ConfigException, load_kube_config

from bench.errors import BenchError

AT_A_TIME = 32
_MERGE = "application/merge-patch+json"
_PLURALS = {
    "Namespace": "namespaces",
    "Node": "nodes",
    "Pod": "pods",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
}


class Api:
    """An open session. Every method raises BenchError for an answer that is none."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: Path) -> AsyncIterator["Api"]:
        """With the credentials of a kubeconfig's current context."""
        configuration: Any = Configuration()
        try:
            load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        except (ConfigException, OSError) as error:
            raise BenchError(f"--kubeconfig {kubeconfig}: {error}") from error
        tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if configuration.cert_file:
            tls.load_cert_chain(configuration.cert_file, configuration.key_file)
        token = configuration.get_api_key_with_prefix("BearerToken")
        headers = {"authorization": token} if token else {}
        connector = aiohttp.TCPConnector(ssl=tls, limit=AT_A_TIME)
        async with aiohttp.ClientSession(configuration.host, headers=headers, connector=connector) as session:
            yield cls(session)

    async def count(self, kind: str) -> int:
        """How many objects there are."""
        path, query = f"/api/v1/{_PLURALS[kind]}", {"limit": "1"}
        answer = msgspec.json.decode(await self._ask("GET", path, params=query))
        return len(answer["items"] or ()) + int(answer["metadata"].get("remainingItemCount", 0))

    async def cluster_ips(self) -> list[str]:
        """Of all services of our namespaces."""
        answer = msgspec.json.decode(await self._ask("GET", "/api/v1/services"))
        specs = [item["spec"] for item in answer["items"] if item["metadata"]["namespace"] != "default"]
        return [spec["clusterIP"] for spec in specs]

    async def create(self, item: Mapping[str, Any]) -> None:
        """An object, and its status where it says one; one that is there already stays as it is."""
        body = msgspec.json.encode(item)
        answer = await self._ask("POST", _path(item), data=body, also=409)
        if "status" in item and b'"AlreadyExists"' not in answer:
            await self.set_status(item, item["status"])

    async def set_status(self, item: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        path = f"{_path(item)}/{item['metadata']['name']}/status"
        body = msgspec.json.encode({"status": status})
        await self._ask("PATCH", path, data=body, headers={"content-type": _MERGE})

    async def _ask(self, method: str, path: str, also: int = 0, **how: Any) -> bytes:
        how.setdefault("headers", {"content-type": "application/json"})
        try:
            async with self._session.request(method, path, **how) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise BenchError(f"{method} {path}: {error or type(error).__name__}") from error
        if response.status >= 300 and response.status != also:
            raise BenchError(f"{method} {path}: {response.status} {body[:300].decode(errors='replace')}")
        return body


def _path(item: Mapping[str, Any]) -> str:
    namespace = item["metadata"].get("namespace")
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"/api/v1{within}/{_PLURALS[item['kind']]}"
