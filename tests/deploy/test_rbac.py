"""The rights that the manifests give to agent and CA are those that they use: no more, and no fewer.

Both run in a lab on an API server that enforces these roles, with their own service accounts, through
all that they do there; its audit log says what that was.
"""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from agent.ca.configmaps import CRL, ROOTS
from agent.kube.client import Client
from agent.kube.errors import ApiError
from agent.lab import Lab
from agent.lab.api import CA_ACCOUNT, NODE_ACCOUNT, REPORTER_ACCOUNT, copy_kubeconfig
from agent.model.engine.kind import Kind
from agent.model.kinds import KINDS, NOT_ACTED_ON
from tests.deploy.manifests import NAMESPACE, Body, create, of_kind
from tests.support import apiserver
from tests.support.wait import until

LISTENERS = [{"name": "one", "port": 80, "protocol": "HTTP"}]
DOORS: dict[str, dict[str, Any]] = {  # whose status is always written
    "GatewayClass": {"controllerName": "warren.dev/gateway-controller"},
    "Gateway": {
        "gatewayClassName": "door",
        "listeners": LISTENERS,
        "allowedListeners": {"namespaces": {"from": "Same"}},
    },
    "ListenerSet": {
        "parentRef": {"name": "door"},
        "listeners": [{**LISTENERS[0], "name": "two", "port": 81}],
    },
}
PARENTS = [{"group": "", "kind": "Service", "name": "nothing"}]
BACKENDS = [{"backendRefs": [{"name": "nothing", "port": 80}]}]
REFUSED: dict[
    str, dict[str, dict[str, Any]]
] = {  # one object that is not in force of each kind that may be refused
    "networking.istio.io/v1": {
        "ServiceEntry": {"hosts": ["*.example.com"], "resolution": "STATIC", "endpoints": [{"address": "x"}]},
        "WorkloadEntry": {"address": "no address", "ports": {"http": 0}},
        "Sidecar": {"egress": [{"hosts": ["./*"]}]},
        "Gateway": {"servers": []},
        "VirtualService": {"hosts": ["web"]},
        "DestinationRule": {"host": "web", "subsets": [{"name": "v_1"}]},
    },
    "security.istio.io/v1": {
        "AuthorizationPolicy": {"rules": [{"when": [{"key": "connection.sni", "values": ["a"]}]}]},
        "PeerAuthentication": {"portLevelMtls": {"80": {"mode": "STRICT"}}},
        "RequestAuthentication": {"jwtRules": [{"issuer": ""}]},
    },
    "policy.warren.dev/v1alpha1": {"RateLimitPolicy": {"rules": [{}]}},
    "telemetry.istio.io/v1": {"Telemetry": {"metrics": [{"providers": [{"name": "unknown"}]}]}},
    "networking.istio.io/v1alpha3": {"EnvoyFilter": {}},
    "networking.istio.io/v1beta1": {"ProxyConfig": {}},
    "extensions.istio.io/v1alpha1": {"WasmPlugin": {}},
    "gateway.networking.k8s.io/v1": {
        "HTTPRoute": {"parentRefs": PARENTS},
        "GRPCRoute": {"parentRefs": PARENTS},
        "TCPRoute": {"parentRefs": PARENTS, "rules": BACKENDS},
        "TLSRoute": {"parentRefs": PARENTS, "hostnames": ["a.example"], "rules": BACKENDS},
    },
}


class Right(NamedTuple):
    """To do something with a resource; name: with this one only; namespace: empty for all.

    path: of what is no resource, instead of one.
    """

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    path: str = ""


def granted(account: str) -> set[Right]:
    """Those that the manifests give."""
    roles = {
        (body["kind"], body["metadata"]["name"]): (body, body["metadata"].get("namespace", ""))
        for body in of_kind("Role", "ClusterRole")
    }
    rights = set()
    for binding in of_kind("RoleBinding", "ClusterRoleBinding"):
        [subject] = binding["subjects"]
        if subject["name"] != account:
            continue
        role, namespace = roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]
        for rule in role["rules"]:
            for verb, path in itertools.product(rule["verbs"], rule.get("nonResourceURLs", [])):
                rights.add(Right(verb, "", "", path=path))
            for group, resource, verb, name in itertools.product(
                rule.get("apiGroups", []),
                rule.get("resources", []),
                rule["verbs"],
                rule.get("resourceNames", [""]),
            ):
                rights.add(Right(verb, group, resource, namespace, name))
    return rights


def fits(right: Right, line: dict[str, str]) -> bool:
    """Whether it was this right that allowed a request of the audit log."""
    if right.path:
        return (right.verb, "") == (line["verb"], line["resource"]) and fnmatch(line["uri"], right.path)
    resource = line["resource"] + (f"/{line['subresource']}" if line["subresource"] else "")
    verb = "create" if str(line["code"]) == "201" else line["verb"]  # an update may do so as well
    return (
        (right.verb, right.group, right.resource) == (verb, line["group"], resource)
        and right.namespace in ("", line["namespace"])
        and right.name in ("", line["name"])
    )


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, str]]]:
    """What the accounts have asked for, after all that agents and CA do has been done once."""
    log = tmp_path_factory.mktemp("audit") / "audit.log"
    with ExitStack() as exits:
        server = exits.enter_context(apiserver.fake(audit_log=log))
        admin = Client.load(server.kubeconfig)
        for kind in (*KINDS.values(), *NOT_ACTED_ON.values()):
            if "." in kind.group.removesuffix(".k8s.io"):
                create(admin, definition(kind))
        lab = exits.enter_context(Lab.up(name=f"wt-rbac-{os.getpid()}", nodes=1, api=server.kubeconfig))
        for body in of_kind("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"):
            create(admin, body)
        node = lab.node("node1")
        environment = exits.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("WARREN_DAEMON_SET", f"{NAMESPACE}/{NODE_ACCOUNT}")
        # All, before one of them has a kubeconfig that another may still be about to read.
        for role in ACCOUNTS:
            node.stop(role)
        for role, account in ACCOUNTS.items():
            # Anew with its own account, and with nothing there that it had made as the admin.
            own = server.kubeconfig_for(token(admin, account), log.parent / account)
            copy_kubeconfig(own, lab.state.run / "kubeconfig", 6443)
            for path in MADE[role]:
                delete(admin, path)
            node.start(role)
        until(lambda: is_mounted(admin, lab), what="tunnels have the root that is told")
        everything(admin, lab)
        rotate = [sys.executable, "-m", "agent.cli.main", "ca", "rotate", "--kubeconfig"]
        subprocess.run([*rotate, str(server.kubeconfig)], check=True, capture_output=True)
        until(lambda: roots(admin) > 1)
        revoked(admin, [*rotate[:-2], "revoke", "--kubeconfig", str(server.kubeconfig), "abcd"])
        missing(admin, log)
        node.stop("agent")  # it looks whether its DaemonSet is gone
        yield read(log)


SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
MADE = {
    "ca": (
        f"{SECRETS}/istio-ca-secret",
        f"{LEASES}/warren-ca",
        f"{CONFIGMAPS}/{ROOTS.name}",
        f"/api/v1/namespaces/{NAMESPACE}/configmaps/{ROOTS.name}",
    ),
    "agent": (),
    "reporter": (f"{LEASES}/warren-status",),
}
ACCOUNTS = {"ca": CA_ACCOUNT, "agent": NODE_ACCOUNT, "reporter": REPORTER_ACCOUNT}


def everything(admin: Client, lab: Lab) -> None:
    """Whatever makes agent and CA use a right of theirs."""
    lab.node("node1").stop("tunnel")
    lab.node("node1").start("tunnel")  # asks for certificates: a review
    for version, kinds in REFUSED.items():
        for kind, spec in kinds.items():
            metadata = {"name": "refused", "namespace": "default"}
            create(admin, {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
    for kind in (
        "gateways",
        "virtualservices",
        "destinationrules",
        "serviceentries",
        "workloadentries",
        "sidecars",
    ):
        until(partial(condition, admin, f"networking.istio.io/v1/namespaces/default/{kind}"))
    for kind in ("authorizationpolicies", "requestauthentications"):
        until(partial(condition, admin, f"security.istio.io/v1/namespaces/default/{kind}"))
    for kind in ("httproutes", "grpcroutes", "tcproutes", "tlsroutes"):
        until(partial(parents, admin, f"gateway.networking.k8s.io/v1/namespaces/default/{kind}"))
    for kind, spec in DOORS.items():
        version = "gateway.networking.k8s.io/v1"
        create(admin, {"apiVersion": version, "kind": kind, "metadata": {"name": "door"}, "spec": spec})
    for path in ("gatewayclasses", "namespaces/default/gateways", "namespaces/default/listenersets"):
        until(partial(condition, admin, f"gateway.networking.k8s.io/v1/{path}"))
    in_part(admin)
    until(lambda: items(admin, CONFIGMAPS, name=ROOTS.name))
    body = {"data": {"root-cert.pem": "changed"}}
    admin.request(
        "PATCH", f"{CONFIGMAPS}/{ROOTS.name}", body=body, content_type="application/merge-patch+json"
    )
    until(lambda: items(admin, CONFIGMAPS, name=ROOTS.name)[0]["data"]["root-cert.pem"] != "changed")


def revoked(admin: Client, command: list[str]) -> None:
    """A list that is told, and told again when somebody spoils it."""
    subprocess.run(command, check=True, capture_output=True)
    until(lambda: items(admin, CONFIGMAPS, name=CRL.name))
    body = {"data": {"ca-crl.pem": "changed"}}
    admin.request("PATCH", f"{CONFIGMAPS}/{CRL.name}", body=body, content_type="application/merge-patch+json")
    until(lambda: items(admin, CONFIGMAPS, name=CRL.name)[0]["data"]["ca-crl.pem"] != "changed")


def missing(admin: Client, log: Path) -> None:
    """A kind that is taken away: discovery is asked whether it is."""
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    delete(admin, f"{definitions}/workloadentries.networking.istio.io")
    until(lambda: all(has_asked(log, account) for account in (NODE_ACCOUNT, REPORTER_ACCOUNT)))


def has_asked(log: Path, account: str) -> bool:
    """Whether it was this account that asked discovery, and not another one."""
    return "/apis/networking.istio.io/v1" in {line["uri"] for line in of(read(log), account)}


def in_part(admin: Client) -> None:
    """Objects that are in force, but not all of each: one says something else, and then the same again."""
    unknown = {"name": "in-part", "labels": {"istio.io/use-waypoint": "a"}}
    create(admin, {"apiVersion": "v1", "kind": "Namespace", "metadata": unknown})
    body = {"apiVersion": "v1", "kind": "Service", "metadata": unknown, "spec": {"ports": [{"port": 80}]}}
    create(admin, body)
    until(partial(said, admin, 2))
    for waypoint, count in (("b", 3), ("a", 4)):
        change = {"metadata": {"labels": {"istio.io/use-waypoint": waypoint}}}
        path = "/api/v1/namespaces/default/services/in-part"
        admin.request("PATCH", path, body=change, content_type="application/merge-patch+json")
        until(partial(said, admin, count))


def said(admin: Client, count: int) -> bool:
    """Whether so often there was something to say."""
    events: list[Any] = [*items(admin, "/api/v1/namespaces/default/events")]
    return bool(sum(event["count"] for event in events) >= count)


def test_nothing_is_missing(audit: list[dict[str, str]]) -> None:
    for account in ACCOUNTS.values():
        refused = {
            (
                line["verb"],
                line["group"],
                line["resource"],
                line["subresource"],
                line["namespace"],
                line["name"],
            )
            for line in of(audit, account)
            if str(line["code"]) in ("401", "403")
        }
        assert not refused


@pytest.mark.parametrize("account", ACCOUNTS.values())
def test_nothing_is_there_that_is_not_used(audit: list[dict[str, str]], account: str) -> None:
    lines = of(audit, account)
    assert lines
    unused = {right for right in granted(account) if not any(fits(right, line) for line in lines)}
    assert not unused


def test_who_only_reads_cannot_write() -> None:
    """An agent is on every node: whoever takes one over must not get to write anything."""
    assert {right.verb for right in granted(NODE_ACCOUNT)} <= {"get", "list", "watch"}


def test_every_right_to_create_a_lease_names_it() -> None:
    rights = [right for account in ACCOUNTS.values() for right in granted(account)]
    made = [right for right in rights if (right.resource, right.verb) == ("leases", "create")]
    assert len(made) == 2 and all(right.name and right.namespace == NAMESPACE for right in made)


def read(log: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def of(audit: list[dict[str, str]], account: str) -> list[dict[str, str]]:
    return [line for line in audit if line["user"] == f"system:serviceaccount:{NAMESPACE}:{account}"]


def definition(kind: Kind) -> Body:
    """A CustomResourceDefinition that takes everything."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"served": True, "schema": {"openAPIV3Schema": anything}, "subresources": {"status": {}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {"kind": kind.written, "plural": kind.plural},
            "versions": [
                {"name": name, "storage": name == kind.versions[0], **version} for name in kind.versions
            ],
        },
    }


def token(admin: Client, account: str) -> str:
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600},
    }
    given: str = msgspec.json.decode(admin.request("POST", path, body=body))["status"]["token"]
    return given


def roots(admin: Client) -> int:
    """How many a namespace is told of."""
    return sum(
        item["data"]["root-cert.pem"].count("BEGIN") for item in items(admin, CONFIGMAPS, name=ROOTS.name)
    )


def is_mounted(admin: Client, lab: Lab) -> bool:
    """Whether the lab's tunnels have the root that each namespace is told of."""
    told = {item["data"]["root-cert.pem"] for item in items(admin, CONFIGMAPS, name=ROOTS.name)}
    return told == {(lab.state.run / "ca" / "root.pem").read_text()}


def delete(admin: Client, path: str) -> None:
    try:
        admin.request("DELETE", path)
    except ApiError as error:
        assert error.status == 404


def items(admin: Client, path: str, name: str = "") -> list[dict[str, dict[str, str]]]:
    query = {"fieldSelector": f"metadata.name={name}"} if name else {}
    found: list[dict[str, dict[str, str]]] = msgspec.json.decode(admin.request("GET", path, query=query))[
        "items"
    ]
    return found


def parents(admin: Client, path: str) -> bool:
    return any("parents" in item.get("status", {}) for item in items(admin, f"/apis/{path}"))


def condition(admin: Client, path: str) -> bool:
    return any("conditions" in item.get("status", {}) for item in items(admin, f"/apis/{path}"))
