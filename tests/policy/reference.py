"""What policies mean, read straight from the manifests: slow, obvious, and with nothing of the product in it.

A connection is judged as Istio's documentation has it for traffic of which only L4 is seen, a request as it
has it for HTTP; and what an application may take for the same is the same (`tests.policy.requests`).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from tests.policy import requests
from tests.policy.requests import Request

ROOT = "istio-system"
Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Attempt:
    """A connection to a pod. identity: `<trust domain>/ns/<namespace>/sa/<account>`, None in plain text.

    request: one that comes over it, if the port is HTTP.
    """

    identity: str | None
    source: str
    destination: str
    port: int
    request: Request | None = None


@dataclass(frozen=True)
class Expected:
    """The verdict ("allowed", "denied" or "not allowed"), and the policies that may be named as its reason.

    would_refuse, audited: the policies that may be named as refusing it in dry run, or as auditing it.
    """

    verdict: str
    denied_by: frozenset[str] = frozenset()
    would_refuse: frozenset[str] = frozenset()
    audited: frozenset[str] = frozenset()


def judge(
    manifests: Sequence[Manifest], pod: Manifest, services: frozenset[str], attempt: Attempt
) -> Expected:
    """services: names of those of the pod's namespace that it is an endpoint of."""
    policies = [m for m in manifests if m["kind"] == "AuthorizationPolicy" and _applies(m, pod, services)]
    fires = {_key(policy): _fires(policy, attempt) for policy in policies}

    def of(*actions: str, dry: bool = False) -> list[str]:
        default = "ALLOW"
        return [
            _key(m) for m in policies if m["spec"].get("action", default) in actions and _dry_run(m) == dry
        ]

    denied_by = {key for key in of("DENY", "CUSTOM") if fires[key]}
    if attempt.identity is None and mode(manifests, pod, attempt.port) == "STRICT":
        denied_by.add("plain text")
    allowing, restricting = any(fires[key] for key in of("ALLOW")), bool(of("ALLOW"))
    audited = frozenset(key for key in (*of("AUDIT"), *of("AUDIT", dry=True)) if fires[key])
    if denied_by:
        return Expected("denied", frozenset(denied_by), audited=audited)
    if restricting and not allowing:
        return Expected("not allowed", audited=audited)
    would_refuse = {key for key in of("DENY", "CUSTOM", dry=True) if fires[key]}
    trials = of("ALLOW", dry=True)
    if not would_refuse and not allowing and trials and not any(fires[key] for key in trials):
        would_refuse = set(trials)
    return Expected("allowed", frozenset(), frozenset(would_refuse), audited)


def mode(manifests: Sequence[Manifest], pod: Manifest, port: int) -> str:
    """STRICT or PERMISSIVE, at a port of a pod."""
    namespace = pod["metadata"]["namespace"]
    those = sorted((m for m in manifests if m["kind"] == "PeerAuthentication"), key=_seniority)
    own = [m for m in those if _namespace(m) == namespace != ROOT and _selector(m) and _selects(m, pod)]
    of_namespace = [m for m in those if _namespace(m) == namespace and not _selector(m)]
    of_mesh = [m for m in those if _namespace(m) == ROOT and not _selector(m)]
    words = []
    if own:
        words.append(own[0]["spec"].get("portLevelMtls", {}).get(str(port), {}).get("mode", "UNSET"))
    for level in (own, of_namespace, of_mesh):
        if level:
            words.append(level[0]["spec"].get("mtls", {}).get("mode", "UNSET"))
    word = next((word for word in words if word != "UNSET"), "PERMISSIVE")
    return "STRICT" if word == "STRICT" else "PERMISSIVE"


def _applies(policy: Manifest, pod: Manifest, services: frozenset[str]) -> bool:
    if _namespace(policy) not in (ROOT, pod["metadata"]["namespace"]):
        return False
    if targets := policy["spec"].get("targetRefs"):
        beside = _namespace(policy) == pod["metadata"]["namespace"]
        return beside and any(t["kind"] == "Service" and t["name"] in services for t in targets)
    return _selects(policy, pod)


def _fires(policy: Manifest, attempt: Attempt) -> bool:
    """Whether any rule matches."""
    return any(_rule(policy, rule, attempt) for rule in policy["spec"].get("rules", []))


def _rule(policy: Manifest, rule: Manifest, attempt: Attempt) -> bool:
    allow = policy["spec"].get("action", "ALLOW") == "ALLOW"
    parts: list[list[list[bool | None]]] = []
    if "from" in rule:
        parts.append([[*_fields(policy, entry["source"], attempt)] for entry in rule["from"]])
    if "to" in rule:
        parts.append([[*_fields(policy, entry["operation"], attempt)] for entry in rule["to"]])
    for when in rule.get("when", []):
        fields = {
            _plain(when["key"]): when.get("values", []),
            _inverted(when["key"]): when.get("notValues", []),
        }
        asked = {name: values for name, values in fields.items() if values}
        parts.append([[*_fields(policy, asked, attempt)]])
    if allow and any(field is None for part in parts for entry in part for field in entry):
        return False
    # Of the others, what is not seen is left out.
    return all(any(all(field is not False for field in entry) for entry in part) for part in parts)


def _plain(key: str) -> str:
    return {
        "source.ip": "ipBlocks",
        "remote.ip": "remoteIpBlocks",
        "source.namespace": "namespaces",
        "source.principal": "principals",
        "source.serviceAccount": "serviceAccounts",
        "source.trustDomain": "trustDomains",
        "destination.ip": "destination.ip",
        "destination.port": "ports",
    }.get(key, key)


def _inverted(key: str) -> str:
    name = _plain(key)
    return "not" + name[0].upper() + name[1:]


def _fields(policy: Manifest, block: Manifest, attempt: Attempt) -> Iterator[bool | None]:
    """For each field whether it holds; None: that cannot be told."""
    for name, values in block.items():
        inverted = name.startswith("not")
        plain = name[3].lower() + name[4:] if inverted else name
        wide = (policy["spec"].get("action", "ALLOW") != "ALLOW") != inverted
        asked = requests.holds(plain, values, attempt.request, wide) if attempt.request else None
        holds = _holds(policy, plain, values, attempt) if asked is None else asked
        beside = name == "trustDomains" and "principals" in block
        yield None if holds is None or beside else holds != inverted


def _holds(policy: Manifest, name: str, values: Sequence[str], attempt: Attempt) -> bool | None:
    identity = attempt.identity
    domain, _, namespace, _, account = identity.split("/") if identity else ("", "", "", "", "")
    known = identity is not None
    tests: dict[str, Callable[[str], bool]] = {
        "ipBlocks": lambda value: _within(attempt.source, value),
        "destination.ip": lambda value: _within(attempt.destination, value),
        "ports": lambda value: value == str(attempt.port),
        "principals": lambda value: known and _like(str(identity), value),
        "namespaces": lambda value: known and _like(namespace, value),
        "trustDomains": lambda value: known and _like(domain, value),
        "serviceAccounts": lambda value: (
            known and f"{namespace}/{account}" == (value if "/" in value else f"{_namespace(policy)}/{value}")
        ),
    }
    # The protocol knows * at one end only; and ports that stand beside a Service are the Service's.
    odd = name == "namespaces" and any(re.fullmatch(r"\*.*\*|.+\*.+", value) for value in values)
    odd |= name == "trustDomains" and any(re.fullmatch(r"\*.+", value) for value in values)
    of_service = name == "ports" and "targetRefs" in policy["spec"]
    if name not in tests or odd or of_service:
        return None
    return any(tests[name](value) for value in values)


def _like(text: str, value: str) -> bool:
    """Whole, `begin*` or `*end`."""
    if value.endswith("*"):
        return text.startswith(value[:-1])
    return text.endswith(value[1:]) if value.startswith("*") else text == value


def _within(address: str, block: str) -> bool:
    network = ip_network(block, strict=False)
    return ip_address(address).version == network.version and ip_address(address) in network


def _selects(policy: Manifest, pod: Manifest) -> bool:
    labels = pod["metadata"].get("labels", {})
    return all(labels.get(name) == value for name, value in _selector(policy).items())


def _selector(policy: Manifest) -> Mapping[str, str]:
    labels: Mapping[str, str] = policy["spec"].get("selector", {}).get("matchLabels", {})
    return labels


def _dry_run(policy: Manifest) -> bool:
    return bool(policy["metadata"].get("annotations", {}).get("istio.io/dry-run") in ("true", "True", "1"))


def _seniority(policy: Manifest) -> tuple[str, str, str]:
    metadata = policy["metadata"]
    return metadata.get("creationTimestamp", ""), metadata["namespace"], metadata["name"]


def _namespace(policy: Manifest) -> str:
    return str(policy["metadata"]["namespace"])


def _key(policy: Manifest) -> str:
    return f"{_namespace(policy)}/{policy['metadata']['name']}"
