"""Route tables and the requests that are asked of them, from `tables/*.yaml`.

A table has a name, the rules of a VirtualService (`http`) or of an HTTPRoute (`rules`), and requests (`ask`),
one a line: `METHOD TARGET`, then headers and perhaps a body, each after a bar: `POST / | x-user: a | < body`.
`to` in a rule stands for its destinations, subsets of `echo`, or Services: `v1`, or `{v1: 100, v2: 0}`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
FOLDER = Path(__file__).with_name("tables")


@dataclass(frozen=True)
class Request:
    """headers: in the order of sending, Host among them."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: str = ""

    @classmethod
    def of(cls, text: str, host: str) -> "Request":
        first, *rest = text.split(" | ")
        method, _, target = first.partition(" ")
        body = "".join(part[2:] for part in rest if part.startswith("< "))
        fields = [tuple(part.split(": ", 1)) for part in rest if not part.startswith("< ")]
        headers = [(one[0], one[-1] if len(one) > 1 else "") for one in fields]
        if not any(name.lower() == "host" for name, _ in headers):
            headers.insert(0, ("host", host))
        return cls(method, target, tuple(headers), body)

    def encode(self, case: str) -> bytes:
        """As it is sent over HTTP/1.1."""
        headers = [*self.headers, ("x-case", case)]
        body = self.body
        if ("transfer-encoding", "chunked") in headers:
            body = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"
        elif body:
            headers.append(("content-length", str(len(body))))
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "", body]).encode("latin-1")


@dataclass(frozen=True)
class Table:
    """kind: `http` (VirtualService) or `rules` (HTTPRoute); host: the Service whose requests it routes."""

    name: str
    kind: str
    rules: list[Json]
    ask: tuple[str, ...]

    @property
    def host(self) -> str:
        return "t-" + "".join(one if one.isalnum() else "-" for one in self.name.lower())[:60].strip("-")

    def objects(self) -> Iterator[Json]:
        meta = {"name": self.host, "namespace": "default"}
        spec = {"selector": {"app": "echo"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
        yield {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}
        if self.kind == "http":
            api, kind = "networking.istio.io/v1", "VirtualService"
            spec = {"hosts": [self.host], "http": self.rules}
        else:
            api, kind = "gateway.networking.k8s.io/v1", "HTTPRoute"
            parent = {"group": "", "kind": "Service", "name": self.host, "port": 80}
            spec = {"parentRefs": [parent], "rules": self.rules}
        yield {"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec}

    def requests(self) -> list[Request]:
        return [Request.of(text, self.host) for text in self.ask]


def written() -> list[Table]:
    """Those of the files, in their order."""
    files = sorted(FOLDER.glob("*.yaml"))
    return [_table(one) for file in files for one in yaml.safe_load(file.read_text())]


def _table(given: Json) -> Table:
    kind = "http" if "http" in given else "rules"
    rules = [expand(rule, kind) for rule in given[kind]]
    return Table(given["name"], kind, rules, tuple(given["ask"].splitlines()))


def expand(rule: Json, kind: str) -> Json:
    """`to` in full."""
    if "to" not in rule:
        return rule
    to = rule["to"]
    shares: Mapping[str, int | None] = to if isinstance(to, dict) else {to: None}
    rest = {key: value for key, value in rule.items() if key != "to"}
    if kind == "rules":
        refs = [{"name": name, "port": 80, **_weight(weight)} for name, weight in shares.items()]
        return {**rest, "backendRefs": refs}
    route = [
        {"destination": {"host": "echo", "subset": name}, **_weight(weight)}
        for name, weight in shares.items()
    ]
    return {**rest, "route": route}


def _weight(weight: int | None) -> Json:
    return {} if weight is None else {"weight": weight}
