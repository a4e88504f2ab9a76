"""A server as the contract's tests use it: the unmodified client, and requests that it would not send."""

import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
import yaml
from kubernetes import client, config

Object = dict[str, Any]

JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


@dataclass(frozen=True)
class Answer:
    """`body` is decoded when it is JSON, else its text."""

    status: int
    body: Any


class Cluster:
    """One server, seen by whoever its kubeconfig names."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        content = yaml.safe_load(kubeconfig.read_text())
        cluster = content["clusters"][0]["cluster"]
        root = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._server: str = cluster["server"]
        self.token: str = content["users"][0]["user"]["token"]
        self._http = urllib3.PoolManager(ca_cert_data=root, retries=False, maxsize=8)
        self.api = config.new_client_from_config(str(kubeconfig))
        self.core = client.CoreV1Api(self.api)

    def close(self) -> None:
        self.api.close()
        self._http.clear()

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        media_type: str = JSON,
        accept: str = JSON,
        token: str | None = None,
        seconds: float = 60.0,
    ) -> Answer:
        """Any request. body: bytes, or what becomes JSON. token: "" for none, None for the kubeconfig's.

        seconds: how long the answer is waited for.
        """
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Accept": accept} | self._bearer(token)
        headers |= {"Content-Type": media_type} if data is not None else {}
        response = self._http.request(
            method, self._server + path, body=data, headers=headers, timeout=seconds
        )
        try:
            return Answer(response.status, json.loads(response.data))
        except ValueError:
            return Answer(response.status, response.data.decode())

    def made(self, path: str, obj: Object) -> Object:
        """An object, created at a path."""
        answer = self.ask("POST", path, obj)
        assert answer.status == 201, answer
        created: Object = answer.body
        return created

    @contextlib.contextmanager
    def watch(
        self, path: str, *, accept: str = JSON, token: str | None = None, **query: Any
    ) -> Iterator["Events"]:
        """A watch; the names of its query are the API's own."""
        query = {"watch": "1", "timeoutSeconds": 60} | query
        response = self._http.request(
            "GET",
            f"{self._server}{path}?{urlencode(query)}",
            headers={"Accept": accept} | self._bearer(token),
            preload_content=False,
            timeout=urllib3.Timeout(connect=10, read=60),
        )
        try:
            yield Events(response)
        finally:
            response.close()

    def version(self, path: str) -> str:
        """The resourceVersion of a list at this moment."""
        version: str = self.ask("GET", path + "?limit=1").body["metadata"]["resourceVersion"]
        return version

    def _bearer(self, token: str | None) -> dict[str, str]:
        token = self.token if token is None else token
        return {"Authorization": f"Bearer {token}"} if token else {}


class Events:
    """What a watch has to say. `status` is HTTP's."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self.status = response.status
        self._response = response
        self._lines = _lines(response)

    def next(self) -> tuple[str, Object]:
        """The next event: type and object."""
        event = json.loads(next(self._lines))
        return event["type"], event["object"]

    def names(self, count: int) -> list[tuple[str, str]]:
        """The next events: types, and names of objects."""
        return [(kind, obj["metadata"].get("name", "")) for kind, obj in (self.next() for _ in range(count))]

    def rest(self) -> list[Object]:
        """All that is still to come, until the server ends the watch."""
        return [json.loads(line) for line in self._lines]

    def body(self) -> Any:
        """The answer, when it is no watch."""
        return json.loads(self._response.read())


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    left = b""
    for piece in response.stream(65536):
        *lines, left = (left + piece).split(b"\n")
        yield from lines
    assert not left, f"the watch ended within a line: {left!r}"


def pod(name: str, node: str = "", **labels: str) -> Object:
    """A pod; it is on a node where one is given."""
    container = {"name": "main", "image": "example"}
    spec: Object = {"containers": [container]} | ({"nodeName": node} if node else {})
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def names(answer: Answer) -> list[str]:
    """The names of a list's items, in its order."""
    assert answer.status == 200, answer
    return [item["metadata"]["name"] for item in answer.body["items"]]
