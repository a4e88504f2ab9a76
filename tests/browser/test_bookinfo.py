"""Bookinfo on a lab in a real Chromium: its page through the gateway, the canary, and the map under load."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By

from agent.lab import Lab, manifests
from agent.lab.members import Pod
from tests.browser.chromium import chromium
from tests.support.samples import SAMPLES
from tests.support.wait import until

BOOKINFO = SAMPLES / "bookinfo"
FILES = [BOOKINFO / "platform/kube/bookinfo.yaml", BOOKINFO / "networking/bookinfo-gateway.yaml"]
PAGE = "bookinfo.example.com"
RATES = {"details": 20.0, "ratings": 5.0}  # connections a second
CLIENT = """
import socket, sys, time
host, rate = sys.argv[1], float(sys.argv[2])
begun, number = time.monotonic(), 0
while True:
    number += 1
    time.sleep(max(0, begun + number / rate - time.monotonic()))
    try:
        with socket.create_connection((host, 9080), 3) as one:
            one.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            while one.recv(4096):
                pass
        print(time.time(), flush=True)
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(FILES, name=f"wt-browser-{os.getpid()}") as lab:
        yield lab


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


@contextmanager
def dashboard(lab: Lab) -> Iterator[str]:
    """The link to the map of the lab's nodes."""
    argv = [sys.executable, "-P", "-m", "agent.cli.main", "lab", "--name", lab.state.name, "dashboard"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def load(pod: Pod, folder: Path) -> Iterator[None]:
    """Connections from a pod, at steady rates; files have the time of each."""
    argv = [sys.executable, "-c", CLIENT]
    clients = []
    for service, rate in RATES.items():
        with (folder / service).open("wb") as file:
            clients.append(pod.popen([*argv, service, str(rate)], stdout=file))
    try:
        yield
    finally:
        for client in clients:
            client.kill()
            client.wait()


def made_in(file: Path, since: float, until: float) -> int:
    """How many connections ended then."""
    return sum(since < float(line) <= until for line in file.read_text().split())


@contextmanager
def applied(lab: Lab, *files: Path) -> Iterator[None]:
    read, _ = manifests.read(files)
    lab.put(read)
    try:
        yield
    finally:
        lab.withdraw([one.key for one in read])


def page_pod(lab: Lab) -> Pod:
    return next(pod for pod in lab.pods if pod.deployment == "productpage-v1")


def edges(browser: webdriver.Chrome) -> dict[tuple[str, str], dict[str, Any]]:
    found = browser.execute_script("return window.warrenMap?.state.graph?.edges ?? []")
    return {(_name(one["source"]), _name(one["destination"])): one for one in found}


def _name(party: str) -> str:
    return party.rpartition("/")[2]


def test_the_map_is_right_under_load(lab: Lab, browser: webdriver.Chrome, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    spec = {"action": "DENY", "selector": {"matchLabels": {"app": "ratings"}}, "rules": [{}]}
    meta = {"name": "nobody", "namespace": "default"}
    kind = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy"}
    policy.write_text(yaml.safe_dump({**kind, "metadata": meta, "spec": spec}))
    with dashboard(lab) as link, load(page_pod(lab), tmp_path):
        browser.get(link)
        browser.find_element(By.CSS_SELECTOR, "#window option[value='10']").click()
        pairs = {service: ("productpage-v1", f"{service}-v1") for service in RATES}

        def differences() -> list[str]:
            """Between the rates that are shown and those of the connections that were made in that time."""
            at, seconds = browser.execute_script(
                "const graph = window.warrenMap?.state.graph; return [graph?.at ?? 0, graph?.seconds ?? 0]"
            )
            if seconds < 9:
                return [f"of {seconds} seconds only"]
            found = edges(browser)
            shown = {service: found.get(pair, {}).get("connections", 0) for service, pair in pairs.items()}
            made = {service: made_in(tmp_path / service, at - seconds, at) / seconds for service in RATES}
            return [
                f"{service}: {shown[service]} shown, {made[service]} made"
                for service in RATES
                if shown[service] != pytest.approx(made[service], rel=0.05)
            ]

        until(lambda: not differences(), what="rates within 5 %")
        assert all(edges(browser)[pair]["lock"] in ("mtls", "direct") for pair in pairs.values())
        assert {source for source, _ in edges(browser)} == {"productpage-v1"}
        with applied(lab, policy):
            until(lambda: _refused(lab), what="the policy is in force")
            begun = time.monotonic()
            until(lambda: edges(browser)[("productpage-v1", "ratings-v1")]["denied"] > 0, what="a denial")
            assert time.monotonic() - begun < 2
            alert = browser.find_element(By.CSS_SELECTOR, "[role=alert]")
            assert "ratings-v1" in str(alert.get_attribute("textContent"))


def _refused(lab: Lab) -> bool:
    argv = ["curl", "-s", "-m", "2", "-o", "/dev/null", "http://ratings:9080/"]
    return page_pod(lab).run(argv, check=False).returncode != 0


def shown(lab: Lab, browser: webdriver.Chrome, port: int, path: str) -> str:
    """What the browser shows of the gateway's port; nothing while nobody listens there."""
    own = next(own for own, there in lab.state.doors.items() if there == port)
    with suppress(WebDriverException):
        browser.get(f"http://127.0.0.1:{own}{path}")
        return str(browser.find_element(By.TAG_NAME, "body").text)
    return ""


def virtual_service(version: str) -> dict[str, Any]:
    destination = {"host": "reviews", "subset": version}
    rule = {"match": [{"uri": {"prefix": "/reviews"}}], "route": [{"destination": destination}]}
    spec = {"hosts": ["127.0.0.1"], "gateways": ["bookinfo-gateway"], "http": [rule]}
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "spec": spec}


def http_route(version: str) -> dict[str, Any]:
    backend = {"name": f"reviews-{version}", "port": 9080}
    rule = {"matches": [{"path": {"type": "PathPrefix", "value": "/reviews"}}], "backendRefs": [backend]}
    spec = {"parentRefs": [{"name": "bookinfo-gateway"}], "rules": [rule]}
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": spec}


def follows(version: str, look: Callable[[], str]) -> None:
    until(lambda: version in look(), what=version)
    assert all(version in look() for _ in range(5))


ISTIO = [BOOKINFO / "networking/destination-rule-reviews.yaml"]
GATEWAY_API = [
    BOOKINFO / part for part in ("gateway-api/bookinfo-gateway.yaml", "platform/kube/bookinfo-versions.yaml")
]


Form = tuple[list[Path], Callable[[str], dict[str, Any]], int]  # what to apply, the canary's route, the port


@pytest.mark.parametrize(
    "form", [(ISTIO, virtual_service, 8080), (GATEWAY_API, http_route, 80)], ids=["istio", "gateway-api"]
)
def test_the_page_shows_and_reviews_change_with_the_canary(
    lab: Lab, browser: webdriver.Chrome, tmp_path: Path, form: Form
) -> None:
    """The browser asks for a host by its address, as the samples' Gateways take any."""
    files, route, port = form
    canary = tmp_path / "canary.yaml"
    with applied(lab, *files):
        until(lambda: "productpage" in shown(lab, browser, port, "/productpage"), what="the page")
        for version in ("v1", "v3"):
            canary.write_text(yaml.safe_dump({**route(version), "metadata": {"name": "canary"}}))
            with applied(lab, canary):
                follows(f"reviews-{version}", lambda: shown(lab, browser, port, "/reviews/0"))
