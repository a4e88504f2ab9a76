"""What `warren routes` shows to people."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

Row = dict[str, Any]


def show_routes(console: Console, services: list[Row]) -> None:
    """A tree for each port of each service: its rules in the order of evaluation."""
    if not services:
        console.print("No routes: connections are forwarded to the services that they are for.")
    for service in services:
        for port in service["ports"]:
            number = port["port"] or "any port"
            tree = Tree(Text(f"{service['service']} {number} {port['protocol']}", "bold"))
            for scope in port["scopes"]:
                _add_scope(tree, scope, port["protocol"])
            console.print(tree)


def show_listeners(console: Console, said: Row) -> None:
    """A tree for each port of a gateway, then what is in conflict."""
    console.print(Text(f"gateway {said['pod']}"))
    if not said["listeners"]:
        console.print("No listeners: no Gateway selects this pod.")
    for listener in said["listeners"]:
        own = "" if listener["bind"] == listener["port"] else f" (port {listener['bind']} of the pod)"
        head = ", PROXY protocol" if listener["proxy_protocol"] else ""
        tree = Tree(Text(f"port {listener['port']}{own}{head}", "bold"))
        for server in listener["servers"]:
            branch = tree.add(Text(_server(server)))
            for scope in server["scopes"]:
                _add_scope(branch, scope, server["protocol"])
        console.print(tree)
    for conflict in said["conflicts"]:
        console.print(Text(f"conflict: {conflict}", "bold red"))


def _server(server: Row) -> str:
    tls = f", TLS {server['tls']}" if server["tls"] else ""
    hosts = f" for {', '.join(server['sni_hosts'])}" if server["sni_hosts"] else ""
    return f"{server['name']}: {server['protocol']}{tls}{hosts}"


def show_explanation(console: Console, said: Row) -> None:
    """What becomes of one request, and why."""
    console.print(Text(f"from {said['from']}"))
    console.print(Text(f"to   {said['service']}, port {said['port']}"))
    show_decision(console, said)
    for destination in said["routes"]["destinations"]:
        _show_destination(console, destination)


def show_decision(console: Console, said: Row) -> None:
    """The rule that decides, after those that do not match."""
    routes = said["routes"]
    if not said["routed"]:
        console.print(
            Text("no routes for this port: the connection is forwarded to an endpoint of the service")
        )
    else:
        console.print(Text(f"rules for {_clients(routes['clients'])}"))
        for rule in routes["earlier"]:
            reasons = " or ".join(rule["mismatches"])
            console.print(Text(f"  {_name(rule)}: does not match: {reasons}", "dim"))
        console.print(Text(_decision(routes), "green" if is_served(said) else "bold red"))


def is_served(said: Row) -> bool:
    """Whether there is an endpoint, a redirect or a configured response for the request."""
    routes = said["routes"]
    kind = routes["outcome"]["kind"] if said["routed"] else "forward"
    if kind == "forward":
        return any(destination.get("endpoints") for destination in routes["destinations"])
    return kind in ("redirect", "respond") and routes["rule"] is not None


def _add_scope(tree: Tree, scope: Row, protocol: str) -> None:
    branch = tree.add(Text(f"for {_clients(scope['clients'])}{_requests_to(scope.get('host'))}"))
    for number, rule in enumerate((*scope["http"], *scope["connections"])):
        text = f"{number}. {_name(rule)}: {_conditions(rule)} -> {action(rule['action'])}"
        branch.add(Text(text + "".join(f", {extra}" for extra in _extras(rule))))
    if protocol in ("HTTP", "HTTP2", "GRPC"):
        unmatched = {"NOT_FOUND": "404", "UNIMPLEMENTED": "gRPC status 12 (UNIMPLEMENTED)"}[
            scope["unmatched"]
        ]
    else:
        unmatched = "the connection is closed"
    branch.add(Text(f"no rule matches -> {unmatched}", "dim"))


def _requests_to(host: str | None) -> str:
    """None: said by a tunnel that knows no such scopes."""
    return f", requests to {host}" if host else ""


def _clients(clients: Row) -> str:
    """Whom rules are for."""
    parts = []
    if clients["namespaces"]:
        parts.append(f"namespace {' or '.join(clients['namespaces'])}")
    if clients["labels"]:
        parts.append("labels " + ", ".join(f"{key}={value}" for key, value in clients["labels"].items()))
    return f"clients of {' with '.join(parts)}" if parts else "all clients"


def _name(rule: Row) -> str:
    named = f"rule {rule['name']}" if rule["name"] else "rule"
    return f"{named} of {rule['origin']}" if rule["origin"] else named


def _conditions(rule: Row) -> str:
    """Matches are OR-ed, the conditions of one AND-ed."""
    matches = [" and ".join(conditions) for conditions in rule["matches"]]
    if not matches or "" in matches:
        return "always"
    return " or ".join(f"({text})" if len(matches) > 1 and " and " in text else text for text in matches)


def action(of: Row) -> str:
    """What a rule does, in one line."""
    match of["kind"]:
        case "forward":
            shares = ", ".join(_share(one) for one in of["destinations"])
            timeout = f", timeout {_seconds(of['timeout_ms'])}" if of.get("timeout_ms") else ""
            retry = f", {of['retry']['attempts']} retries" if of.get("retry") else ""
            return f"{shares}{', path rewritten' if of.get('rewrites_path') else ''}{timeout}{retry}"
        case "redirect":
            return f"redirect {of['status']}"
        case _:
            return f"response {of['status']}, {of['body_bytes']} bytes"


def _extras(rule: Row) -> Iterator[str]:
    if fault := rule.get("fault"):
        if fault["delay_ms"] and fault["delay_percent"]:
            yield f"delay {_seconds(fault['delay_ms'])} for {fault['delay_percent']:g} %"
        if fault["abort"] and fault["abort_percent"]:
            [(kind, code)] = fault["abort"].items()
            yield f"abort with {kind.replace('_', ' ')} {code} for {fault['abort_percent']:g} %"
    if rule.get("cors"):
        yield "CORS"
    for mirror in rule.get("mirrors", ()):
        yield f"mirror to {_share(mirror)}"


def _share(one: Row) -> str:
    share = "" if one["percent"] == 100 else f" {one['percent']:g} %"
    return f"{_destination(one)}{share}"


def _destination(one: Row) -> str:
    if "status" in one:
        return f"{one['status']} ({one['flag']}: {one['reason']})"
    subset = f" subset {one['subset']}" if one["subset"] else ""
    return f"{one['service']}:{one['port']}{subset}"


def _decision(routes: Row) -> str:
    """The rule that decides, and what it does."""
    if routes["rule"] is None:
        outcome = routes["outcome"]
        status = outcome.get("grpc_status")
        answer = (
            f"gRPC status {status}"
            if status is not None
            else outcome.get("status", "the connection is closed")
        )
        return f"no rule matches -> {answer}"
    rule = routes["rule"]["told"]
    outcome = routes["outcome"]
    text = f"{_name(rule)}: matches ({_conditions(rule)}) -> {action(rule['action'])}"
    if location := outcome.get("location"):
        text += f" to {location}"
    if path := outcome.get("path"):
        text += f": {path}"
    return text + "".join(f", {extra}" for extra in _extras(rule))


def _show_destination(console: Console, destination: Row) -> None:
    tree = Tree(Text(_share(destination)))
    for text in _layers(destination.get("policy", {})):
        tree.add(Text(text))
    for text in _endpoints(destination.get("endpoints", ())):
        tree.add(Text(text))
    if missing := destination.get("missing"):
        tree.add(Text(f"no endpoint: {missing}", "bold red"))
    console.print(tree)


def _layers(policy: Row) -> Iterator[str]:
    """What comes between an endpoint and what is sent to it, and whose word that is."""
    by = f" ({policy['origin']})" if policy.get("origin") else ""
    if version := policy.get("proxy_protocol"):
        yield f"PROXY protocol {version}{by}"
    if policy.get("credential") is not None or policy.get("sni") is not None:
        name = policy["sni"] or "the request's host"
        verified = policy["credential"] or "the system's roots"
        check = f"verified by {verified}" if policy["verifies"] else "not verified"
        yield f"TLS {policy['tls']} as {name}, {check}{by}"
    elif mode := policy.get("tls"):
        yield f"TLS {mode}{by}"
    if tunnel := policy.get("tunnel"):
        yield f"tunnel {tunnel}{by}"


def _endpoints(endpoints: Iterable[Row]) -> Iterator[str]:
    """The nearest ones first; priorities and weights where they differ from those of others."""
    for one in sorted(endpoints, key=lambda one: (one["priority"], one["pod"])):
        priority = f", priority {one['priority']}" if one["priority"] else ""
        weight = f", weight {one['weight']}" if one["weight"] != 1 else ""
        yield f"{one['pod']} {one['address']}{priority}{weight}"


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:g} s"
