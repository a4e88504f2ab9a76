"""Random policies about few names, addresses and ports, so that what they say meets the connections."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.policy.reference import ROOT, Attempt, Manifest
from tests.policy.requests import Request

NAMESPACES = ("a", "b", ROOT)
ACCOUNTS = ("web", "api")
PORTS = (80, 8080, 15)
SOURCES = ("10.0.0.1", "10.0.1.1", "192.168.7.7", "fd00::1", "fd00:1::1")
BLOCKS = (
    "10.0.0.0/24",
    "10.0.0.1",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "fd00::/16",
    "fd00::1",
    "::/0",
    "192.168.0.0/16",
)
MODES = ("UNSET", "DISABLE", "PERMISSIVE", "STRICT", "STRICT")
PROTOCOLS = ("http", "http", "grpc", "tcp")
PATHS = (
    *(
        "/",
        "/a",
        "/a/",
        "/a/b",
        "/a/c",
        "/b",
        "/a/b/c",
        "//a",
        "/a//b",
        "/./a",
        "/b/../a",
        "/%61",
        "/b/%2e%2e/a",
    ),
    *("/a%2fb", "/b/..%2fa", "/a;x", "/b/..;/a", "/a%252fb", "/a\\b", "/b;x/c", "/a/b;y=1/c"),
)
HOSTS = ("h", "H", "h:80", "h.", "h.:80", "x.h", "other")
CLAIMS = (
    None,
    {"iss": "i", "sub": "s", "aud": ["p", "q"], "azp": "p", "scope": "read write", "n": {"m": ["p", "x"]}},
    {"iss": "i", "sub": "t", "aud": "q", "n": {"m": 7}, "permission": "p"},
)
LABELS = ({"app": "x"}, {"app": "y"}, {"app": "x", "version": "1"})

Values = Callable[[Random], str]


@dataclass(frozen=True)
class Case:
    """Policies, the pod that they may be about (with a Service beside it), and connections to it."""

    manifests: list[Manifest]
    attempts: list[Attempt]


def draw(random: Random) -> Case:
    """One of the random cases; the same one from the same state."""
    pod_ips = ["10.1.0.1", "fd01::1"]
    labels = random.choice(LABELS)
    pod = {
        **_head(random, "Pod", "pod", random.choice(NAMESPACES)),
        "spec": {"nodeName": "n1", "serviceAccountName": "shop"},
        "status": {"phase": "Running", "podIPs": [{"ip": ip} for ip in pod_ips]},
    }
    pod["metadata"]["labels"] = labels
    service = {
        **_head(random, "Service", "shop", pod["metadata"]["namespace"]),
        "spec": {"selector": {"app": "x"}, "ports": _ports(random)},
    }
    fits = labels["app"] == "x"
    http = [port["port"] for port in service["spec"]["ports"] if fits and not port["name"].startswith("tcp")]
    policies = [authorization(random, f"p{n}") for n in range(random.randrange(5))]
    policies += [authentication(random, f"m{n}") for n in range(random.randrange(4))]
    attempts = [_attempt(random, pod_ips, http) for _ in range(6)]
    return Case([pod, service, *policies], attempts)


def _ports(random: Random) -> list[Manifest]:
    return [{"name": f"{random.choice(PROTOCOLS)}-{port}", "port": port} for port in PORTS[:2]]


def _attempt(random: Random, pod_ips: list[str], http: list[int]) -> Attempt:
    identity = f"{random.choice(['td', 'td2'])}/ns/{random.choice(NAMESPACES)}/sa/{random.choice(ACCOUNTS)}"
    port = random.choice(PORTS)
    return Attempt(
        None if random.random() < 0.3 else identity,
        random.choice(SOURCES),
        random.choice(pod_ips),
        port,
        _request(random) if port in http else None,
    )


def _request(random: Random) -> Request:
    headers = [(name, random.choice("xyz")) for name in ("x", "X", "other") if random.random() < 0.4]
    return Request(
        random.choice(("GET", "POST", "get")),
        random.choice(HOSTS),
        random.choice(PATHS),
        tuple(headers),
        random.choice(SOURCES),
        random.choice(CLAIMS),
    )


def _head(random: Random, kind: str, name: str, namespace: str) -> dict[str, Any]:
    group = {"Pod": "v1", "Service": "v1"}.get(kind, "security.istio.io/v1")
    since = f"2026-01-0{random.randrange(1, 4)}T00:00:00Z"
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": since}
    return {"apiVersion": group, "kind": kind, "metadata": metadata}


def authorization(random: Random, name: str) -> Manifest:
    """An AuthorizationPolicy of this name, in any of the namespaces."""
    policy = _head(random, "AuthorizationPolicy", name, random.choice(NAMESPACES))
    spec = policy["spec"] = dict[str, Any]()
    if random.random() < 0.7:
        spec["action"] = random.choice(["ALLOW", "ALLOW", "DENY", "DENY", "AUDIT", "CUSTOM"])
    if random.random() < 0.2 and spec.get("action", "ALLOW") in ("ALLOW", "DENY"):
        policy["metadata"]["annotations"] = {"istio.io/dry-run": random.choice(["true", "True", "1"])}
    least = 1 if spec.get("action") in ("DENY", "CUSTOM") else 0
    if random.random() < 0.4:
        spec["selector"] = {"matchLabels": random.choice([*LABELS, {}])}
    elif random.random() < 0.2:
        kind, group = random.choice([("Service", ""), ("Gateway", "gateway.networking.k8s.io")])
        spec["targetRefs"] = [{"kind": kind, "group": group, "name": random.choice(["shop", "other"])}]
    if spec.get("action") == "CUSTOM":
        spec["provider"] = {"name": "authorizer"}
        spec["rules"] = [_unidentified(random) for _ in range(random.randrange(1, 3))]
    elif count := random.randrange(least, 3):
        spec["rules"] = [_rule(random) for _ in range(count)]
    return policy


def _unidentified(random: Random) -> Manifest:
    """What a rule of CUSTOM may ask for: nothing about who the caller is."""
    rule = dict[str, Any]()
    if random.random() < 0.6:
        rule["from"] = [{"source": _block(random, ADDRESS)} for _ in range(random.randrange(1, 3))]
    if random.random() < 0.4:
        rule["to"] = [{"operation": _block(random, OPERATION)} for _ in range(random.randrange(1, 3))]
    return rule


def _rule(random: Random) -> Manifest:
    rule = dict[str, Any]()
    if random.random() < 0.6:
        rule["from"] = [{"source": _source(random)} for _ in range(random.randrange(1, 3))]
    if random.random() < 0.4:
        rule["to"] = [{"operation": _block(random, OPERATION)} for _ in range(random.randrange(1, 3))]
    if random.random() < 0.4:
        rule["when"] = [_when(random) for _ in range(random.randrange(1, 3))]
    return rule


def _name(random: Random) -> str:
    return random.choice(NAMESPACES)


def _namespace(random: Random) -> str:
    return random.choice([*NAMESPACES, "a*", "*m", "*", "z", *["a*b"][: random.randrange(2)]])


def _account(random: Random) -> str:
    return random.choice([*ACCOUNTS, f"{_name(random)}/{random.choice(ACCOUNTS)}"])


def _principal(random: Random) -> str:
    whole = f"td/ns/{_name(random)}/sa/{random.choice(ACCOUNTS)}"
    return random.choice(
        [whole, whole, "*", f"td/ns/{_name(random)}*", f"*/sa/{random.choice(ACCOUNTS)}", "td2*"]
    )


def _trust_domain(random: Random) -> str:
    return random.choice(["td", "td2", "t*", "td*", "*", "other", *["*d2"][: random.randrange(2)]])


def _block_of_addresses(random: Random) -> str:
    return random.choice(BLOCKS)


def _port(random: Random) -> str:
    return str(random.choice(PORTS))


def _method(random: Random) -> str:
    return random.choice(["GET", "POST", "G*", "*T", "*"])


def _path(random: Random) -> str:
    templates = ["/{*}", "/a/{*}", "/a/{**}", "/{*}/b", "/{**}", "/{*}/b/{**}"]
    return random.choice(["/a", "/a/b", "/a*", "/a/*", "*b", "*", "/", "//a", "/a;x", *templates])


def _host(random: Random) -> str:
    return random.choice(["h", "H", "h:*", "*h", "h*", "h.", "*", "other"])


def _subject(random: Random) -> str:
    return random.choice(["i/s", "i/t", "i/*", "*/s", "*", "x"])


def _claim(random: Random) -> str:
    return random.choice(["p", "q", "read", "read write", "*", "x", "r*"])


def _word(random: Random) -> str:
    return random.choice(["x", "y", "x,y", "x*", "*"])


SOURCE: dict[str, Values] = {
    **dict.fromkeys(("principals", "notPrincipals"), _principal),
    **dict.fromkeys(("namespaces", "notNamespaces"), _namespace),
    **dict.fromkeys(("ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"), _block_of_addresses),
    **dict.fromkeys(("trustDomains", "notTrustDomains"), _trust_domain),
    **dict.fromkeys(("requestPrincipals", "notRequestPrincipals"), _subject),
}
ADDRESS: dict[str, Values] = dict.fromkeys(("ipBlocks", "notIpBlocks", "remoteIpBlocks"), _block_of_addresses)
ACCOUNT: dict[str, Values] = {
    **dict.fromkeys(("serviceAccounts", "notServiceAccounts"), _account),
    **dict.fromkeys(("ipBlocks", "notIpBlocks"), _block_of_addresses),
    **dict.fromkeys(("trustDomains", "notTrustDomains"), _trust_domain),
}
OPERATION: dict[str, Values] = {
    **dict.fromkeys(("ports", "notPorts"), _port),
    **dict.fromkeys(("methods", "notMethods"), _method),
    **dict.fromkeys(("paths", "notPaths"), _path),
    **dict.fromkeys(("hosts", "notHosts"), _host),
}
KEYS: dict[str, Values] = {
    **dict.fromkeys(("source.ip", "remote.ip"), _block_of_addresses),
    "destination.ip": lambda random: random.choice(["10.1.0.1", "10.1.0.0/16", "fd01::/32", "10.2.0.0/16"]),
    "source.namespace": _namespace,
    "source.principal": _principal,
    "source.serviceAccount": _account,
    "destination.port": _port,
    "source.trustDomain": _trust_domain,
    **dict.fromkeys(("request.headers[x]", "request.headers[X]", "request.headers[none]"), _word),
    "request.auth.principal": _subject,
    **dict.fromkeys(
        ("request.auth.audiences", "request.auth.presenter", "request.auth.claims[n][m]"), _claim
    ),
    **dict.fromkeys(("request.auth.claims[scope]", "request.auth.claims[permission]"), _claim),
    **dict.fromkeys(("connection.sni", "experimental.envoy.filters.a[b]", "request.headers[:path]"), _word),
}


def _source(random: Random) -> Manifest:
    return _block(random, random.choice([SOURCE, SOURCE, ACCOUNT]))


def _block(random: Random, fields: dict[str, Values]) -> Manifest:
    """One to three fields."""
    names = random.sample([*fields], random.randrange(1, 1 + min(3, len(fields))))
    return {name: _values(random, fields[name]) for name in names}


def _when(random: Random) -> Manifest:
    key = random.choice([*KEYS])
    which = random.choice([("values",), ("notValues",), ("values", "notValues")])
    return {"key": key, **{name: _values(random, KEYS[key]) for name in which}}


def _values(random: Random, value: Values) -> list[str]:
    return [value(random) for _ in range(random.randrange(1, 4))]


def authentication(random: Random, name: str) -> Manifest:
    """A PeerAuthentication of this name, in any of the namespaces."""
    policy = _head(random, "PeerAuthentication", name, random.choice(NAMESPACES))
    spec = policy["spec"] = dict[str, Any]()
    if random.random() < 0.8:
        spec["mtls"] = {"mode": random.choice(MODES)}
    if random.random() < 0.5:
        spec["selector"] = {"matchLabels": random.choice(LABELS)}
        if random.random() < 0.7:
            ports = random.sample(PORTS, random.randrange(1, 3))
            spec["portLevelMtls"] = {str(port): {"mode": random.choice(MODES)} for port in ports}
    return policy


def mistaken(random: Random, manifest: Manifest) -> Manifest:
    """The same with a typing error somewhere, in a field's name or a value; it may still be a valid one."""
    wrong = deepcopy(dict(manifest))
    places = [*_places(wrong["spec"]), *_places(wrong["metadata"].get("annotations", {}))]
    block, step = random.choice([*places, (wrong, "spec")])
    if isinstance(block, dict) and random.random() < 0.4:
        block[f"{step}z"] = block.pop(step)
    else:
        block[step] = random.choice([7, "?!", [], {}, [7], {"?": "!"}, ["10.0.0.0/33"]])
    return wrong


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in it, as what holds it and where."""
    steps = [*value] if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for step in steps:
        yield value, step
        yield from _places(value[step])
