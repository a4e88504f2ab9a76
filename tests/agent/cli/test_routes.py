"""`warren routes`: where there is no answer, and in what words there is one."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from rich.console import Console

from agent.cli import main, routing

NOWHERE = ("--tunnel", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*NOWHERE], "no tunnel answers at http://127.0.0.1:1: "),
        (["reviews", *NOWHERE], "--tunnel names its admin port"),
        (["list", *NOWHERE], "no tunnel answers"),
        (["listeners", *NOWHERE], "no tunnel answers"),
        (["explain", "GET", "http://a/", "--from", "b", *NOWHERE], "no tunnel answers"),
        (["explain", "GET", "http://a/"], "--from is missing"),
        (["explain", "GET"], "Missing argument 'URL'"),
        (["explain", "GET", "http://a/", "--from", "b", "-H", "x"], "--header: 'x' is no header, such as"),
    ],
)
def test_no_answer_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["routes", *arguments]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def destination(subset: str = "", percent: float = 100.0, **more: Any) -> dict[str, Any]:
    return {"service": "a/web", "port": 80, "subset": subset, "percent": percent, **more}


def forward(*destinations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"kind": "forward", "destinations": destinations or [destination()], **more}


def rule(name: str, *matches: list[str], **more: Any) -> dict[str, Any]:
    origin = "VirtualService a/web"
    return {"name": name, "origin": origin, "matches": matches, "action": forward(), **more}


def printed(show: Any, said: Any) -> str:
    text = io.StringIO()
    show(Console(file=text, width=200), said)
    return text.getvalue()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (forward(), "a/web:80"),
        (
            forward(destination("v1", 90.0), destination("v2", 10.0)),
            "a/web:80 subset v1 90 %, a/web:80 subset v2 10 %",
        ),
        (forward(timeout_ms=1500, retry={"attempts": 2}), "a/web:80, timeout 1.5 s, 2 retries"),
        (
            forward({"status": 503, "flag": "NC", "reason": "no subset v9", "percent": 100.0}),
            "503 (NC: no subset v9)",
        ),
        ({"kind": "redirect", "status": 301}, "redirect 301"),
        ({"kind": "respond", "status": 200, "body_bytes": 5}, "response 200, 5 bytes"),
    ],
)
def test_actions_in_words(given: dict[str, Any], text: str) -> None:
    assert routing.action(given) == text


def test_routes_are_a_tree_in_the_order_of_evaluation() -> None:
    fault = {"delay_ms": 7000, "delay_percent": 100.0, "abort": {"status": 555}, "abort_percent": 0.5}
    scope = {
        "clients": {"namespaces": ["shop"], "labels": {"app": "x"}},
        "http": [
            rule("jason", ["header end-user is 'jason'", "path is '/a'"], ["port is 81"], fault=fault),
            rule("", [], mirrors=[destination("v2", 25.0)], cors=True),
        ],
        "connections": [],
        "unmatched": "NOT_FOUND",
    }
    port = {"port": 80, "protocol": "HTTP", "scopes": [scope]}
    said = printed(routing.show_routes, [{"service": "a/web", "ports": [port]}])
    lines = [line.strip(" │├└─") for line in said.splitlines()]
    assert lines == [
        "a/web 80 HTTP",
        "for clients of namespace shop with labels app=x",
        "0. rule jason of VirtualService a/web: (header end-user is 'jason' and path is '/a') or port is 81"
        " -> a/web:80, delay 7 s for 100 %, abort with status 555 for 0.5 %",
        "1. rule of VirtualService a/web: always -> a/web:80, CORS, mirror to a/web:80 subset v2 25 %",
        "no rule matches -> 404",
    ]
    assert "forwarded to the services" in printed(routing.show_routes, [])


def explanation(**routes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "clients": {"namespaces": [], "labels": {}},
        "earlier": [],
        "rule": None,
        "outcome": {"kind": "forward", "path": None},
        "destinations": [],
    }
    return {"from": "a/client", "service": "a/web", "port": 80, "routed": True, "routes": whole | routes}


def test_an_explanation_names_the_rule_the_endpoints_and_why_not_the_others() -> None:
    earlier = [
        {"name": "jason", "origin": "", "mismatches": ["header end-user is missing", "port is not 81"]}
    ]
    endpoints = [
        {"pod": "a/far", "address": "10.0.0.2:80", "priority": 1, "weight": 1},
        {"pod": "a/near", "address": "10.0.0.3:80", "priority": 0, "weight": 3},
    ]
    told = {"rule": {"told": rule("rest")}, "destinations": [destination("v1", endpoints=endpoints)]}
    said = explanation(earlier=earlier, **told)
    assert routing.is_served(said)
    assert printed(routing.show_explanation, said).splitlines() == [
        "from a/client",
        "to   a/web, port 80",
        "rules for all clients",
        "  rule jason: does not match: header end-user is missing or port is not 81",
        "rule rest of VirtualService a/web: matches (always) -> a/web:80",
        "a/web:80 subset v1",
        "├── a/near 10.0.0.3:80, weight 3",
        "└── a/far 10.0.0.2:80, priority 1",
    ]


def test_what_is_not_served() -> None:
    unmatched = explanation(outcome={"kind": "respond", "status": 404, "body": ""})
    missing = "the service has no healthy endpoint"
    empty = explanation(rule={"told": rule("r")}, destinations=[destination(endpoints=[], missing=missing)])
    closed = explanation(outcome={"kind": "close"})
    redirect = explanation(
        rule={"told": rule("r", action={"kind": "redirect", "status": 301})},
        outcome={"kind": "redirect", "status": 301, "location": "https://b/"},
    )
    assert [routing.is_served(one) for one in (unmatched, empty, closed, redirect)] == [
        False,
        False,
        False,
        True,
    ]
    assert "no rule matches -> 404" in printed(routing.show_explanation, unmatched)
    assert "no rule matches -> the connection is closed" in printed(routing.show_explanation, closed)
    assert f"no endpoint: {missing}" in printed(routing.show_explanation, empty)
    assert "redirect 301 to https://b/" in printed(routing.show_explanation, redirect)
    plain = explanation(destinations=[destination(endpoints=[])]) | {"routed": False}
    assert "no routes for this port" in printed(routing.show_explanation, plain)


def test_listeners_are_shown_with_hosts_tls_routes_and_conflicts() -> None:
    scope = {
        "host": "shop.example.com",
        "clients": {"namespaces": [], "labels": {}},
        "http": [rule("", ["path starts with /"])],
        "connections": [],
        "unmatched": "NOT_FOUND",
    }
    hosts = ["shop.example.com"]
    server = {
        "name": "Gateway default/shop https",
        "protocol": "HTTP",
        "tls": "terminated",
        "sni_hosts": hosts,
    }
    listener = {
        "port": 443,
        "bind": 8443,
        "proxy_protocol": False,
        "servers": [{**server, "scopes": [scope]}],
    }
    said = {"pod": "edge/door", "listeners": [listener], "conflicts": ["Gateway default/b http: taken"]}
    assert printed(routing.show_listeners, said).splitlines() == [
        "gateway edge/door",
        "port 443 (port 8443 of the pod)",
        "└── Gateway default/shop https: HTTP, TLS terminated for shop.example.com",
        "    └── for all clients, requests to shop.example.com",
        "        ├── 0. rule of VirtualService a/web: path starts with / -> a/web:80",
        "        └── no rule matches -> 404",
        "conflict: Gateway default/b http: taken",
    ]
    assert "No listeners" in printed(routing.show_listeners, {**said, "listeners": [], "conflicts": []})


@pytest.mark.parametrize(("conflicts", "code"), [([], 0), (["Gateway default/b http: taken"], 1)])
def test_a_conflict_of_listeners_is_told_by_the_exit_code(conflicts: list[str], code: int) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"pod": "a/b", "listeners": [], "conflicts": conflicts}).encode())

    with HTTPServer(("127.0.0.1", 0), Answer) as tunnel:
        answering = threading.Thread(target=tunnel.handle_request)
        answering.start()
        assert main.run(["routes", "listeners", "--tunnel", f"http://127.0.0.1:{tunnel.server_port}"]) == code
        answering.join()
