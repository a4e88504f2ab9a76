"""Random meshes of four pods, and what becomes of requests there: as `warren why` says, and as it is.

`Drawn` is one mesh with its requests; `disagreement` holds an answer of the tunnel (`protocols.admin.Why`)
against what came back. The functions for the two sides run in processes of a pod and of a node.
"""

import http.client
import json
from random import Random
from typing import Any, NamedTuple

from tests.support import backend
from tests.support.backend import Answer

Manifest = dict[str, Any]
Address = tuple[str, int]

HTTP, OTHER = 7000, 7001  # each pod serves HTTP at both; Services of ours call the second one TCP
PODS = ("a", "near", "far", "outside")
SERVICES: dict[str, Manifest] = {
    "both": {"role": "b"},
    "solo": {"app": "a"},
    "bare": {"app": "outside"},
    "empty": {"app": "nobody"},
}
PATHS = ("/", "/open", "/open/more", "/admin", "/old/open")
_OF_B = {"from": [{"source": {"principals": ["cluster.local/ns/default/sa/b"]}}]}


class Case(NamedTuple):
    """A request. to: as `warren why` is asked; address: where it is sent, None: that of a Service."""

    source: str
    to: str
    address: str | None
    port: int
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]

    @property
    def service(self) -> str:
        return self.to.partition(".")[0]

    @property
    def question(self) -> Manifest:
        of = {"method": self.method, "path": self.path, "headers": self.headers}
        return {"from": self.source, "to": self.to, "port": self.port, **of}

    @property
    def request(self) -> bytes:
        head = [f"{self.method} {self.path} HTTP/1.1", f"host: {self.address or self.to}"]
        return "\r\n".join([*head, *(": ".join(one) for one in self.headers), "", ""]).encode()


class Drawn(NamedTuple):
    """Objects, and requests while they are in force."""

    manifests: list[Manifest]
    cases: list[Case]


def services() -> list[Manifest]:
    """What all meshes have: Services, one of them of a port that no pod has, and subsets of one."""
    ports = [
        {"name": "http", "port": 80, "targetPort": HTTP},
        {"name": "tcp", "port": 90, "targetPort": OTHER},
        {"name": "http-wrong", "port": 100, "targetPort": "nope"},
    ]
    found = [
        service(name, number, ports, selector=of) for number, (name, of) in enumerate(SERVICES.items(), 90)
    ]
    subsets = [{"name": app, "labels": {"app": app}} for app in ("near", "far", "gone")]
    return [*found, manifest("DestinationRule", "both", host="both", subsets=subsets)]


def draw(random: Random, count: int, addresses: dict[str, str]) -> Drawn:
    """A mesh with `count` requests; addresses: of the pods, and of one place outside by the name "node"."""
    manifests = [_policy(random, f"p{number}", addresses) for number in range(random.randrange(4))]
    if random.random() < 0.4:
        manifests.append(_authentication(random))
    hosts = [host for host in ("both", "solo") if random.random() < 0.6]
    manifests += [_routes(random, host) for host in hosts]
    if random.random() < 0.3:
        manifests.append(manifest("Sidecar", "egress", outboundTrafficPolicy={"mode": "REGISTRY_ONLY"}))
    return Drawn(manifests, [_case(random, addresses) for _ in range(count)])


def _case(random: Random, addresses: dict[str, str]) -> Case:
    source = random.choice(PODS)
    headers = (("x-user", "jason"),) if random.random() < 0.4 else ()
    request = (random.choice(("GET", "GET", "POST")), random.choice(PATHS), headers)
    if random.random() < 0.15:  # a Service of the lab's own, which who is outside reaches as well
        return Case(source, f"{random.choice(PODS)}.default", None, 80, *request)
    if random.random() < 0.6 and source != "outside":
        port = random.choice((80, 80, 80, 90, 100, 81))
        return Case(source, random.choice([*SERVICES]), None, port, *request)
    name = random.choice([one for one in addresses if one != source])
    port = HTTP if name == "node" else random.choice((HTTP, OTHER))
    by_name = name != "node" and random.random() < 0.5
    return Case(source, f"default/{name}" if by_name else addresses[name], addresses[name], port, *request)


def service(name: str, number: int, ports: list[Manifest], **spec: Any) -> Manifest:
    """One with an address, by its number of the lab's network of Services."""
    address = f"10.96.77.{number}"
    return manifest("Service", name, clusterIP=address, clusterIPs=[address], ports=ports, **spec)


def manifest(kind: str, name: str, **spec: Any) -> Manifest:
    security = dict.fromkeys(("AuthorizationPolicy", "PeerAuthentication"), "security.istio.io/v1")
    version = {"Service": "v1", **security}.get(kind, "networking.istio.io/v1")
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _selected(random: Random) -> Manifest:
    labels = random.choice(({}, {"app": "a"}, {"app": "near"}, {"app": "far"}, {"role": "b"}))
    return {"selector": {"matchLabels": labels}} if labels else {}


def _policy(random: Random, name: str, addresses: dict[str, str]) -> Manifest:
    action = random.choice(("ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"))
    rules = [_rule(random, addresses) for _ in range(random.randrange(0 if action == "ALLOW" else 1, 3))]
    return manifest("AuthorizationPolicy", name, action=action, rules=rules, **_selected(random))


def _rule(random: Random, addresses: dict[str, str]) -> Manifest:
    rule: Manifest = {}
    if random.random() < 0.6:
        some = [addresses[random.choice(PODS)]]
        sources: list[Manifest] = [
            _OF_B["from"][0]["source"],
            {"notPrincipals": ["cluster.local/ns/default/sa/a"]},
            {"namespaces": [random.choice(("default", "other"))]},
            {"ipBlocks": some},
            {"notIpBlocks": some},
        ]
        rule["from"] = [{"source": random.choice(sources)}]
    if random.random() < 0.6:
        operations: list[Manifest] = [
            {"ports": [str(random.choice((HTTP, OTHER)))]},
            {"methods": [random.choice(("GET", "POST"))]},
            {"paths": [random.choice(("/open", "/open*", "/admin", "/"))]},
            {"notPaths": ["/admin"]},
            {"hosts": [random.choice((*SERVICES, "both:*"))]},
        ]
        rule["to"] = [{"operation": random.choice(operations)}]
    if random.random() < 0.2:
        rule["when"] = [{"key": "request.headers[x-user]", "values": ["jason"]}]
    return rule


def _authentication(random: Random) -> Manifest:
    selected = _selected(random)
    modes: Manifest = {"mtls": {"mode": random.choice(("STRICT", "STRICT", "PERMISSIVE", "DISABLE"))}}
    if selected and random.random() < 0.5:
        modes["portLevelMtls"] = {str(OTHER): {"mode": random.choice(("STRICT", "PERMISSIVE", "DISABLE"))}}
    return manifest("PeerAuthentication", "modes", **selected, **modes)


def _routes(random: Random, host: str) -> Manifest:
    rules = [_http(random, last=False) for _ in range(random.randrange(3))]
    if random.random() < 0.8:
        rules.append(_http(random, last=True))
    return manifest("VirtualService", host, hosts=[host], http=rules or [_http(random, last=True)])


def _http(random: Random, *, last: bool) -> Manifest:
    matches: list[Manifest] = [
        {"uri": {"prefix": random.choice(("/open", "/admin", "/old"))}},
        {"uri": {"exact": random.choice(PATHS)}},
        {"headers": {"x-user": {"exact": "jason"}}},
        {"method": {"exact": "POST"}},
    ]
    rule: Manifest = {} if last else {"match": [random.choice(matches)]}
    match random.randrange(6):
        case 0:
            return {**rule, "redirect": {"uri": "/elsewhere", "redirectCode": 302}}
        case 1:
            return {**rule, "directResponse": {"status": 418}}
        case 2:
            rule["rewrite"] = {"uri": random.choice(("/admin", "/open"))}
        case 3:
            change = random.choice(({"set": {"x-user": "jason"}}, {"remove": ["x-user"]}))
            rule["headers"] = {"request": change}
    shares = [_destination(random) for _ in range(random.choice((1, 1, 2)))]
    weight = {"weight": 50} if len(shares) > 1 else {}
    return {**rule, "route": [{"destination": one, **weight} for one in shares]}


def _destination(random: Random) -> Manifest:
    host = random.choice(("both", "both", "solo", "bare", "empty", "nobody"))
    subset = random.choice(("near", "far", "gone", "unknown")) if host == "both" else ""
    named = {"subset": subset} if subset and random.random() < 0.5 else {}
    return {"host": host, "port": {"number": 80}, **named}


def ask_all(requests: list[tuple[Address, bytes, str]]) -> list[Answer]:
    """What comes back, each over a connection of its own; status 0: nothing, as the body says."""
    return [_asked(*one) for one in requests]


def _asked(to: Address, request: bytes, method: str) -> Answer:
    try:
        return backend.ask(to, request, method)
    except OSError as error:
        return Answer(0, (), type(error).__name__.encode())


def ask_why(port: int, questions: list[Manifest]) -> list[Manifest]:
    """What the tunnel of this node says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    answers = []
    for question in questions:
        connection.request("POST", "/why", json.dumps(question))
        response = connection.getresponse()
        body = response.read()
        answers.append(json.loads(body) if response.status == 200 else {"error": body.decode()})
    connection.close()
    return answers


def disagreement(said: Manifest, answer: Answer) -> str:
    """What the answer to a question does not agree with; empty: it is as was said."""
    if "error" in said:
        return f"no answer: {said['error']}"
    (port,) = said["ports"]
    verdict, used = port["verdict"], [one for one in port["endpoints"] if one["used"]]
    served = {one["name"]: one["verdict"] for one in used}
    end = "default/" + answer.body.decode(errors="replace")
    fixed = _fixed(port)
    if verdict == "allowed" and fixed:
        return "" if answer.status == fixed else f"not {fixed}"
    if verdict == "allowed" or (verdict == "depends" and answer.status == 200):
        lets_in = not served or served.get(end) == "allowed"
        return "" if answer.status == 200 and lets_in else f"not served by one of {served}"
    if verdict == "depends":
        share = "a share of the requests is refused" in port["text"]
        refusing = share or any(one != "allowed" for one in served.values())
        return "" if refusing else "refused by nobody"
    expected = {"no_route": (0, 404, 503), "no_endpoint": (0, 503)}.get(verdict, (0, 403, 503))
    return "" if answer.status in expected else f"not one of {expected}"


def _fixed(port: Manifest) -> int:
    """The status with which the client's own node answers; 0: it does not."""
    outcome = ((port["routes"] or {}).get("routes") or {}).get("outcome") or {}
    return int(outcome["status"]) if outcome.get("kind") in ("redirect", "respond") else 0
