"""A real Prometheus that scrapes a lab, and promtool."""

import contextlib
import http.client
import json
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from agent.lab import Lab, kernel
from agent.lab.members import Node
from tests.support import ports
from tests.support.wait import until

RULES = Path(__file__).parents[2] / "deploy" / "monitoring" / "rules.yaml"
PORTS = {"agent": 15014, "ca": 15015, "tunnel": 15020}


class _Relay(BaseHTTPRequestHandler):
    """Passes /NODE/PORT/PATH on to what listens on the loopback of a lab's node."""

    def __init__(self, lab: Lab, *args: Any) -> None:
        self._lab = lab
        super().__init__(*args)

    def do_GET(self) -> None:
        _, node, port, path = self.path.split("/", 3)
        try:
            kind, text = page(self._lab.node(node), int(port), f"/{path}", self.headers["accept"])
        except OSError:
            self.send_error(502)
            return
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def page(node: Node, port: int, path: str, accept: str) -> tuple[str, str]:
    """What a process of a node answers: the type of its content, and that. Raises OSError."""

    def ask() -> tuple[str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"accept": accept})
            answer = connection.getresponse()
            return answer.headers["content-type"], answer.read().decode()

    return kernel.in_netns(node.netns, ask)


def total(lab: Lab, name: str, **labels: str) -> float:
    """Of the samples of a counter with these labels, as the tunnels of all nodes have it now."""
    found = 0.0
    for node in lab.nodes:
        for line in node.fetch(PORTS["tunnel"], "/metrics").splitlines():
            wanted = all(f'{label}="{value}"' in line for label, value in labels.items())
            found += float(line.rsplit(" ", 1)[1]) if line.startswith(f"{name}{{") and wanted else 0
    return found


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str, **query: str) -> Any:
        """The `data` of an answer. Raises OSError while there is none or it starts, else AssertionError."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            raise AssertionError(f"{query}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[Any]:
        """The samples of an instant query."""
        found: list[Any] = self.get("query", query=expression)["result"]
        return found

    def value(self, expression: str) -> float:
        """Of a query with one sample; 0 where there is none."""
        return sum(float(one["value"][1]) for one in self.query(expression))

    def targets(self) -> dict[str, str]:
        """The health of each target, by its instance."""
        active = self.get("targets", state="active")["activeTargets"]
        return {one["labels"]["instance"]: one["health"] for one in active}


@contextmanager
def scraping(lab: Lab, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that asks all nodes of a lab once a second, with our rules."""
    relay = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Relay, lab))
    threading.Thread(target=relay.serve_forever, daemon=True).start()
    port = ports.free_port()
    (folder / "rules.yaml").write_text(yaml.safe_dump(yaml.safe_load(RULES.read_text())["spec"]))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(_config(lab, relay.server_port)))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        prometheus = Prometheus(port)
        until(partial(_is_up, prometheus), what="Prometheus answers")
        yield prometheus
    finally:
        process.terminate()
        process.wait()
        relay.shutdown()
        relay.server_close()


def _is_up(prometheus: Prometheus) -> bool:
    with contextlib.suppress(OSError):
        return {*prometheus.targets().values()} == {"up"}
    return False


def _config(lab: Lab, relay: int) -> Mapping[str, Any]:
    first = lab.nodes[0].name
    scraped = [
        (node.name, role) for node in lab.nodes for role in PORTS if role != "ca" or node.name == first
    ]
    jobs = [
        {
            "job_name": f"{node}-{role}",
            "metrics_path": f"/{node}/{PORTS[role]}/metrics",
            "static_configs": [
                {"targets": [f"127.0.0.1:{relay}"], "labels": {"instance": f"{node}:{PORTS[role]}"}}
            ],
        }
        for node, role in scraped
    ]
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": jobs,
    }


def complaints(text: str) -> list[str]:
    """What promtool says of metrics in Prometheus' text format."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=30
    )
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]
