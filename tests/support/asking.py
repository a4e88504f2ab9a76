"""HTTP requests from inside a pod. The functions run in a Resident."""

import http.client
import json
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

Address = tuple[str, int]


class Pace(NamedTuple):
    """From a moment on (of `time.time`), for so many seconds, so many each second."""

    begin: float
    seconds: int
    rate: int


class Answer(NamedTuple):
    """What came back.

    version: the server's pod label, empty if none of our servers answered; seen, line: the request's headers
    and first line as the server got them; headers: the answer's, names in lower case; seconds: until the end;
    facts: all that the server told.
    """

    status: int
    version: str
    seen: Mapping[str, str]
    line: str
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    facts: Mapping[str, Any]


def ask(
    to: Address, host: str, path: str = "/", *, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Answer:
    """One request over a connection of its own."""
    connection = http.client.HTTPConnection(*to, timeout=20)
    try:
        return _ask(connection, method, path, {"Host": host, **(headers or {})})
    finally:
        connection.close()


def paced(to: Address, host: str, path: str, headers: Mapping[str, str], pace: Pace) -> Counter[int]:
    """Statuses of requests at a steady rate, over one connection."""
    begin, seconds, rate = pace
    connection = http.client.HTTPConnection(*to, timeout=20)
    statuses = Counter[int]()
    try:
        _ask(connection, "GET", "/", {"Host": host})
        for number in range(int(seconds * rate)):
            time.sleep(max(begin + number / rate - time.time(), 0))
            if time.time() >= begin + seconds:
                break
            statuses[_ask(connection, "GET", path, {"Host": host, **headers}).status] += 1
        return statuses
    finally:
        connection.close()


def versions(to: Address, host: str, count: int, headers: Mapping[str, str] | None = None) -> Counter[str]:
    """Which versions answer so many requests over each of four connections; `<status>` where none did."""
    return sum((_versions(to, host, count, headers) for _ in range(4)), Counter())


def _versions(to: Address, host: str, count: int, headers: Mapping[str, str] | None) -> Counter[str]:
    connection = http.client.HTTPConnection(*to, timeout=20)
    try:
        answers = (_ask(connection, "GET", "/", {"Host": host, **(headers or {})}) for _ in range(count))
        return Counter(answer.version or str(answer.status) for answer in answers)
    finally:
        connection.close()


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, headers: Mapping[str, str]
) -> Answer:
    began = time.monotonic()
    connection.request(method, path, headers=dict(headers))
    response = connection.getresponse()
    body = response.read()
    taken = time.monotonic() - began
    got = {name.lower(): value for name, value in response.getheaders()}
    facts = json.loads(body) if got.get("content-type") == "application/json" else {}
    request = facts.get("request", {"headers": {}, "line": ""})
    version = facts.get("labels", {}).get("version", "")
    return Answer(response.status, version, request["headers"], request["line"], got, body, taken, facts)
