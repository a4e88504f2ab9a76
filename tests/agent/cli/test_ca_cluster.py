"""`warren ca` of a cluster as a process, with the rights that its manifests give it and no others."""

import base64
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import pytest
import yaml

from agent.ca.configmaps import CRL, ROOTS
from agent.ca.reviews import AUDIENCE
from agent.ca.revocation import serials
from agent.ca.rotation import Phase, State
from agent.ca.secret import PLUGGED_IN, Secrets
from agent.ca.signer import tidy
from agent.kube.errors import ApiError
from protocols.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from tests.support import apiserver
from tests.support.authority import csr
from tests.support.cluster import AMBIENT, Cluster
from tests.support.plugged import NAMES, authority, material
from tests.support.ports import free_port
from tests.support.wait import until

SUPPORT = Path(__file__).parents[2] / "support"
RBAC = Path(__file__).parents[3] / "deploy" / "daemonset" / "rbac.yaml"
ACCOUNT = "warren-ca"
OUTSIDE = {"istio.io/dataplane-mode": "none"}
_SOON = 60.0
Body = dict[str, Any]
Use = tuple[str, str, str]  # verb, API group, resource


def grants() -> list[Body]:
    """The objects of RBAC that are the authority's."""
    documents = yaml.safe_load_all(RBAC.read_text())
    return [one for one in documents if one and one["metadata"]["name"] == ACCOUNT and "Role" in one["kind"]]


def grant(cluster: Cluster) -> None:
    """As the manifests do, for the test's own namespace."""
    text = json.dumps(grants()).replace("warren-system", cluster.namespace)
    for body in json.loads(text):
        kind, group = body["kind"], ("apis", "rbac.authorization.k8s.io", "v1")
        name = ACCOUNT if kind.startswith("Role") else f"{cluster.namespace}-ca"
        body["metadata"]["name"] = name
        if "roleRef" in body:
            body["roleRef"]["name"] = name
        within = ("namespaces", cluster.namespace) if kind.startswith("Role") else ()
        cluster.post(body, *group, *within, f"{kind.lower()}s")


@dataclass
class Authority:
    """The process, and how to ask it."""

    cluster: Cluster
    process: "subprocess.Popen[bytes]"
    port: int
    metrics: int

    def page(self, path: str) -> str:
        """What its HTTP port answers, also when it is no good news."""
        try:
            with urlopen(f"http://127.0.0.1:{self.metrics}{path}", timeout=10) as response:
                return str(response.read().decode())
        except HTTPError as error:
            with error:
                return str(error.read().decode())
        except OSError:
            return ""

    def ask(self, token: str, namespace: str, account: str, host: str = "") -> grpc.StatusCode:
        """CreateCertificate, at the name by which the Service is known."""
        identity = f"spiffe://cluster.local/ns/{namespace}/sa/{account}"
        request = IstioCertificateRequest(csr=csr([identity]))
        request.metadata.update({"ImpersonatedIdentity": identity})
        root = roots_in(self.cluster, self.cluster.namespace).encode()
        target = host or f"warren-ca.{self.cluster.namespace}.svc"
        options = [("grpc.ssl_target_name_override", target)]
        credentials = grpc.ssl_channel_credentials(root)
        with grpc.secure_channel(f"127.0.0.1:{self.port}", credentials, options) as channel:
            method = channel.unary_unary(
                "/istio.v1.auth.IstioCertificateService/CreateCertificate",
                IstioCertificateRequest.SerializeToString,
                IstioCertificateResponse.FromString,
            )
            try:
                method(request, metadata=(("authorization", f"Bearer {token}"),), timeout=10)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK


def roots_in(cluster: Cluster, namespace: str) -> str:
    try:
        found = cluster.get("api", "v1", "namespaces", namespace, "configmaps", ROOTS.name)
    except ApiError as error:
        assert error.status == 404, error
        return ""
    labelled = found["metadata"].get("labels", {}).get("istio.io/config") == "true"
    return str(found["data"].get(ROOTS.key, "")) if labelled else ""


def crl_in(cluster: Cluster, namespace: str) -> str:
    try:
        found = cluster.get("api", "v1", "namespaces", namespace, "configmaps", CRL.name)
    except ApiError as error:
        assert error.status == 404, error
        return ""
    return str(found["data"].get(CRL.key, ""))


@contextmanager
def running(cluster: Cluster, folder: Path, before: Callable[[], None] = lambda: None) -> Iterator[Authority]:
    """As its account. `before`: to be done when all that it needs is there."""
    cluster.account(ACCOUNT)
    grant(cluster)
    with replica(cluster, folder, [], before) as one:
        yield one


@contextmanager
def replica(
    cluster: Cluster, folder: Path, through: list[str], before: Callable[[], None] = lambda: None
) -> Iterator[Authority]:
    """One that may do what the account may. through: a command that runs it."""
    audience = "https://kubernetes.default.svc.cluster.local"
    own = cluster.kubeconfig_for(cluster.token(ACCOUNT, None, audience), folder / "kubeconfig")
    port, metrics = free_port(), free_port()
    settings = {"listen": f"127.0.0.1:{port}", "source": "kube", "kubeconfig": own, "metrics-port": metrics,
                "namespace": cluster.namespace, "node-account": f"{cluster.namespace}/tunnel",
                "serving-name": "istiod.istio-system.svc"}  # fmt: skip
    options = [f"--{name}={value}" for name, value in settings.items()]
    command = [*through, sys.executable, "-m", "agent.cli.main", "ca", *options]
    before()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield Authority(cluster, process, port, metrics)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def cluster(audit: Path) -> Iterator[Cluster]:
    with ExitStack() as exits:
        kubeconfig = apiserver.real() or exits.enter_context(apiserver.fake(audit_log=audit)).kubeconfig
        made = Cluster(kubeconfig)
        yield made
        made.close()


def warren(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "agent.cli.main", "ca", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def used(audit: Path, user: str) -> set[Use]:
    """What a user asked for and got."""
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    return {
        (line["verb"], line["group"], line["resource"])
        for line in lines
        if line["user"] == user and line["resource"] and line["code"] < 400
    }


def granted() -> set[Use]:
    return {
        (verb, group, resource)
        for body in grants()
        for rule in body.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


METRICS = """\
warren_ca_requests_total{result="ok"} 2.0
warren_ca_requests_total{result="not_on_node"} 1.0
warren_ca_rotation{phase="steady"} 1.0
citadel_server_csr_count 4.0
citadel_server_success_cert_issuance_count 2.0
citadel_server_authentication_failure_count 2.0
"""


def test_its_life_in_a_cluster(cluster: Cluster, tmp_path: Path, audit: Path) -> None:
    demo = cluster.new_namespace("demo")
    cluster.account("tunnel")
    cluster.pod("tunnel", "node1", "tunnel")
    cluster.pod("web", "node1", "web", demo)
    cluster.pod("db", "node2", "db", demo)
    token = cluster.token("tunnel", "tunnel", AUDIENCE)
    where = (f"--kubeconfig={cluster.kubeconfig}", f"--namespace={cluster.namespace}")
    missing = warren("status", *where)
    assert missing.returncode == 1
    assert "there is no Secret" in missing.stderr

    with running(cluster, tmp_path) as ca:
        until(lambda: ca.page("/healthz/ready") == "ready\n", _SOON, "it is ready")
        until(
            lambda: roots_in(cluster, cluster.namespace) and roots_in(cluster, demo), _SOON, "roots are told"
        )
        signs(ca, token, demo)
        no_node_gives_itself_an_identity(ca, token, demo)
        tells_the_roots(cluster, demo)
        revokes(ca, demo, where, tmp_path)
        rotates(cluster, demo, where)
        if audit.exists():
            user = f"system:serviceaccount:{cluster.namespace}:{ACCOUNT}"
            until(
                lambda: ("update", "coordination.k8s.io", "leases") in used(audit, user), _SOON, "a renewal"
            )
            # An update that makes the Lease asks for both rights, and is noted as an update.
            assert used(audit, user) | {("create", "coordination.k8s.io", "leases")} == granted()
        ca.process.send_signal(signal.SIGTERM)
        assert ca.process.wait(_SOON) == 0

    lease = ("apis", "coordination.k8s.io", "v1", "namespaces", cluster.namespace, "leases", "warren-ca")
    assert not cluster.get(*lease)["spec"].get("holderIdentity")
    log = (tmp_path / "log").read_text()
    for secret in ("ERROR", "Traceback", "PRIVATE ROOTS.key", token):
        assert secret not in log


def signs(ca: Authority, token: str, demo: str) -> None:
    """By the names of its Service, for what runs on the caller's node."""
    assert ca.ask(token, demo, "web") is grpc.StatusCode.OK
    assert ca.ask(token, demo, "web", "istiod.istio-system.svc") is grpc.StatusCode.OK
    assert ca.ask(token, demo, "db") is grpc.StatusCode.PERMISSION_DENIED
    assert ca.ask("nonsense", demo, "web") is grpc.StatusCode.UNAUTHENTICATED
    metrics = ca.page("/metrics").splitlines()
    assert set(METRICS.splitlines()) <= set(metrics)
    assert any(line.startswith("citadel_server_root_cert_expiry_timestamp 2") for line in metrics)


def no_node_gives_itself_an_identity(ca: Authority, token: str, demo: str) -> None:
    """By the object of a static pod, which it may make, nor by an annotation, which it may write."""
    static = {"kubernetes.io/config.mirror": "hash", "kubernetes.io/config.hash": "hash"}
    claims = {"ambient.istio.io/redirection": "enabled"}
    ca.cluster.pod("static", "node1", "", demo, labels=AMBIENT, annotations=static | claims)
    ca.cluster.pod("named", "node1", "named", demo, labels=AMBIENT, annotations=static | claims)
    ca.cluster.pod("host", "node1", "host", demo, labels=AMBIENT, annotations=claims, hostNetwork=True)
    ca.cluster.pod("out", "node1", "out", demo, labels=OUTSIDE, annotations=claims)
    ca.cluster.pod("last", "node1", "last", demo)
    until(lambda: ca.ask(token, demo, "last") is grpc.StatusCode.OK, _SOON, "all of them are known")
    refused = {account: ca.ask(token, demo, account) for account in ("default", "named", "host", "out")}
    assert refused == dict.fromkeys(refused, grpc.StatusCode.PERMISSION_DENIED)


def tells_the_roots(cluster: Cluster, demo: str) -> None:
    """What is spoilt or taken away is put back, in old namespaces and new ones."""
    roots = roots_in(cluster, demo)
    path = ("api", "v1", "namespaces", demo, "configmaps", ROOTS.name)
    cluster.patch({"data": {ROOTS.key: "spoilt"}}, *path)
    until(lambda: roots_in(cluster, demo) == roots, _SOON, "a change is undone")
    cluster.patch({"metadata": {"labels": {"istio.io/config": None}}}, *path)
    until(lambda: roots_in(cluster, demo) == roots, _SOON, "the label is put back")
    cluster.delete(*path)
    until(lambda: roots_in(cluster, demo) == roots, _SOON, "it is made again")
    later = cluster.new_namespace("later")
    until(lambda: roots_in(cluster, later) == roots, _SOON, "a new namespace has it")
    assert roots_in(cluster, "kube-system") == roots
    assert roots_in(cluster, "kube-public") == ""


def revokes(ca: Authority, demo: str, where: tuple[str, str], folder: Path) -> None:
    """By serial number or file; every namespace is told, and what is no certificate of ours is named."""
    (folder / "leaf.pem").write_text(roots_in(ca.cluster, demo))  # signed by itself, which will do here
    done = warren("revoke", *where, "AB:CD", f"{folder}/leaf.pem")
    assert done.returncode == 0, done.stderr
    until(lambda: crl_in(ca.cluster, demo).count("BEGIN X509 CRL") == 1, _SOON, "the list is told")
    assert "0xabcd" in {hex(serial) for serial in serials(crl_in(ca.cluster, demo))}
    assert "revoked:    2 by CN=root" in warren("status", *where).stdout
    assert "warren_ca_revoked 2.0" in ca.page("/metrics")
    path = ("api", "v1", "namespaces", demo, "configmaps", CRL.name)
    ca.cluster.patch({"data": {CRL.key: "spoilt"}}, *path)
    until(lambda: crl_in(ca.cluster, demo).count("BEGIN X509 CRL") == 1, _SOON, "a change is undone")
    for wrong, why in (("none.pem", "no serial number, and no file"), (str(RBAC), "holds no certificate of")):
        done = warren("revoke", *where, wrong)
        assert (done.returncode, why in done.stderr) == (1, True), done.stderr


def rotates(cluster: Cluster, demo: str, where: tuple[str, str]) -> None:
    """When it is told to, and says so."""
    begun = warren("rotate", *where)
    assert begun.returncode == 0, begun.stderr
    assert "signs next:" in begun.stdout
    twice = warren("rotate", *where)
    assert twice.returncode == 1
    assert "a rotation is under way: announced since" in twice.stderr
    now = warren("status", *where)
    assert now.stdout == begun.stdout.removeprefix("asked for a new root ...\n")
    assert now.stdout.count("trusted:") == 2
    until(lambda: roots_in(cluster, demo).count("BEGIN") == 2, _SOON, "both roots are told")


def test_it_waits_for_the_server_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with apiserver.fake(tmp_path / "api") as server:
        cluster = Cluster(server.kubeconfig)
        with running(cluster, tmp_path, before=server.stop) as ca:
            until(
                lambda: ca.page("/healthz/ready") == "waiting for the root\n",
                _SOON,
                "it says what it waits for",
            )
            server.start()
            until(lambda: ca.page("/healthz/ready") == "ready\n", _SOON, "it is ready")
            server.stop()
            ca.process.send_signal(signal.SIGTERM)
            assert ca.process.wait(_SOON) == 0
        server.start()
        cluster.close()
    assert "Traceback" not in (tmp_path / "log").read_text()


def wrong_machine(folder: Path, seconds: int) -> list[str]:
    """A command that runs another one on a machine of its own name, whose clock is ahead."""
    library = folder / "ahead.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, SUPPORT / "ahead.c"], check=True)
    script = f'hostname wrong && exec env LD_PRELOAD={library} AHEAD={seconds} $0 "$@"'
    return ["unshare", "--uts", "sh", "-c", script]


def test_a_replica_on_a_machine_two_days_ahead_signs_nothing_and_is_told(
    cluster: Cluster, tmp_path: Path
) -> None:
    where = (f"--kubeconfig={cluster.kubeconfig}", f"--namespace={cluster.namespace}")
    words = "this machine's clock is 2 days ahead of the API server's"
    elsewhere = tmp_path / "wrong"
    elsewhere.mkdir()
    with running(cluster, tmp_path) as good:
        until(lambda: good.page("/healthz/ready") == "ready\n", _SOON, "the good one is ready")
        assert warren("rotate", *where).returncode == 0
        with replica(cluster, elsewhere, wrong_machine(tmp_path, 2 * 86400)) as wrong:
            waits = f"waiting for {words}: nothing is signed until they agree\n"
            until(lambda: wrong.page("/healthz/ready") == waits, _SOON, "it says why it is not ready")
            told = 'warren_ca_trouble{matter="clock"} 1.0'
            until(lambda: told in good.page("/metrics"), _SOON, "the other one knows")
            assert f"wrong says: {words}. No rotation goes on" in warren("status", *where).stdout
            ahead = re.search(r"^warren_ca_clock_ahead_seconds (.*)", wrong.page("/metrics"), re.MULTILINE)
            assert ahead
            assert float(ahead[1]) == pytest.approx(2 * 86400, abs=5)
            assert wrong.ask("any", "any", "any") is grpc.StatusCode.UNAVAILABLE
        stored = Secrets(cluster.client, cluster.namespace).read()
        assert stored
        assert stored.state.phase is Phase.ANNOUNCED, "its hold is a day, whatever that machine thinks"
        assert good.page("/healthz/ready") == "ready\n"


@pytest.mark.parametrize("command", ["rotate", "status", "serve"])
def test_a_kubeconfig_that_is_none_is_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "config").write_text("nonsense")
    more = ["--listen=127.0.0.1:0", "--source=kube"] if command == "serve" else []
    done = warren(command, f"--kubeconfig={tmp_path}/config", *more)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"--kubeconfig {tmp_path}/config" in done.stderr


def test_the_status_says_what_is_plugged_in_and_rotating_is_up_to_it(cluster: Cluster) -> None:
    where = (f"--kubeconfig={cluster.kubeconfig}", f"--namespace={cluster.namespace}")
    top = authority("root")
    good = tidy(material(authority("mesh", top), top))
    secrets = Secrets(cluster.client, cluster.namespace)
    secrets.create(State(good, None, None, datetime.now(UTC), timedelta(days=1)))
    data = {name: base64.b64encode(text.encode()).decode() for name, text in zip(NAMES, good, strict=True)}
    path = ("api", "v1", "namespaces", cluster.namespace, "secrets")
    cluster.post({"metadata": {"name": PLUGGED_IN}, "data": data}, *path)
    said = warren("status", *where).stdout.splitlines()
    assert said[0].startswith("signs:      CN=mesh, serial ")
    assert said[1].startswith("trusted:    CN=root, serial ")
    assert said[2:] == ["rotation:   steady", "plugged in: by Secret cacerts"]
    done = warren("rotate", *where)
    assert done.returncode == 1
    assert "the CA is plugged in: replace what Secret" in done.stderr
    cluster.patch({"data": {"ca-key.pem": "AA=="}}, *path, PLUGGED_IN)
    assert "cacerts is not used: ca-key.pem holds no private key" in warren("status", *where).stdout
