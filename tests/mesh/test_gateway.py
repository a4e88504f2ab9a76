"""Bookinfo from outside of the mesh: the samples' Gateways as they stand, over the machine's loopback."""

import contextlib
import http.client
import json
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.lab import Lab, manifests
from agent.lab.controllers import Body
from agent.model.schema.objects import Key
from tests.support import asking
from tests.support.certificates import Authority, Certificate
from tests.support.curl import Answer, curl
from tests.support.samples import SAMPLES
from tests.support.wait import until

KUBE, NETWORKING = (SAMPLES / "bookinfo" / part for part in ("platform/kube", "networking"))
GATEWAY = NETWORKING / "bookinfo-gateway.yaml"
PORT, GATEWAY_API_PORT, ADMIN = 8080, 80, 15000
INGRESS = "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"
REVIEWS = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews-outside}
spec:
  hosts: [reviews.example.com]
  gateways: [bookinfo-gateway]
  http:
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 50}
    - {destination: {host: reviews, subset: v3}, weight: 50}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up([KUBE / "bookinfo.yaml", GATEWAY], name=f"wt-gateway-{os.getpid()}") as lab:
        yield lab


def door(lab: Lab, port: int = PORT) -> asking.Address:
    """Where the machine's loopback leads to a port of the gateway."""
    return "127.0.0.1", next(own for own, there in lab.state.doors.items() if there == port)


def ask(
    lab: Lab, path: str, host: str = "bookinfo.example.com", port: int = PORT, **more: str
) -> asking.Answer:
    return asking.ask(door(lab, port), host, path, headers=more)


def status(lab: Lab, port: int) -> int:
    """Of the page; 0 while nothing answers: the lab's way to a port is there before the gateway listens."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return ask(lab, "/productpage", port=port).status
    return 0


@contextmanager
def applied(lab: Lab, *files: Path) -> Iterator[Sequence[manifests.Manifest]]:
    read, _ = manifests.read(files)
    lab.put(read)
    try:
        yield read
    finally:
        lab.withdraw([one.key for one in read])


def test_the_page_shows(lab: Lab) -> None:
    """Through HBONE, with the gateway's identity, and with what a browser's way to it was."""
    until(lambda: ask(lab, "/productpage").status == 200, what="the page")
    page = ask(lab, "/productpage")
    assert page.version == "v1"
    assert page.seen["x-forwarded-proto"] == "http" and page.seen["x-forwarded-for"]
    node = next(pod.node for pod in lab.pods if pod.name.startswith("productpage"))
    assert INGRESS in lab.node(node).fetch(ADMIN, "/connections")


def test_paths_are_those_of_the_virtual_service(lab: Lab) -> None:
    until(lambda: ask(lab, "/productpage").status == 200, what="the page")
    statuses = {path: ask(lab, path).status for path in ("/static/x", "/api/v1/products/0", "/ratings", "/")}
    assert statuses == {"/static/x": 200, "/api/v1/products/0": 200, "/ratings": 404, "/": 404}


def test_the_page_shows_by_the_gateway_api(lab: Lab) -> None:
    """Beside Istio's Gateway of the same name; the listener's port is opened, and closed again."""
    with applied(lab, SAMPLES / "bookinfo" / "gateway-api" / "bookinfo-gateway.yaml"):
        until(lambda: status(lab, GATEWAY_API_PORT) == 200, what="the page")
        statuses = {
            path: ask(lab, path, port=GATEWAY_API_PORT).status for path in ("/static/x", "/staticx", "/")
        }
        assert statuses == {"/static/x": 200, "/staticx": 404, "/": 404}
        address = door(lab, GATEWAY_API_PORT)
    until(lambda: is_closed(address), what="the listener is gone")
    assert ask(lab, "/productpage").status == 200


def is_closed(address: asking.Address) -> bool:
    try:
        asking.ask(address, "bookinfo.example.com", "/productpage")
    except (OSError, http.client.HTTPException):
        return True
    return False


def test_another_host_has_rules_of_its_own(lab: Lab, tmp_path: Path) -> None:
    """A canary behind the gateway."""
    reviews = tmp_path / "reviews.yaml"
    reviews.write_text(REVIEWS)
    with applied(lab, NETWORKING / "destination-rule-reviews.yaml", reviews):
        until(lambda: ask(lab, "/", "reviews.example.com").status == 200, what="reviews answer")
        counts = Counter(ask(lab, "/", "reviews.example.com").version for _ in range(60))
        assert set(counts) == {"v1", "v3"}, counts
        assert ask(lab, "/", "else.example.com").status == 404
    until(lambda: ask(lab, "/", "reviews.example.com").status == 404, what="the rules are gone")


# ---- TLS -------------------------------------------------------------------------------------------------

SECURE = "shop.example.com"
HANDSHAKE_FAILED = 35  # of curl's codes
LONGEST, RATE = 60.0, 100  # seconds, connections a second
TLS_PORT, MUTUAL_PORT, OTHER_PORT = 443, 8444, 8445
TLS = f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: secure}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {TLS_PORT}, name: https, protocol: HTTPS}}
    hosts: [{SECURE}]
    tls: {{mode: SIMPLE, credentialName: shop}}
  - port: {{number: {TLS_PORT}, name: https-other, protocol: HTTPS}}
    hosts: [other.example.com]
    tls: {{mode: SIMPLE, credentialName: other, minProtocolVersion: TLSV1_3}}
  - port: {{number: {MUTUAL_PORT}, name: https-mutual, protocol: HTTPS}}
    hosts: [{SECURE}]
    tls: {{mode: MUTUAL, credentialName: shop}}
  - port: {{number: 80, name: http, protocol: HTTP}}
    hosts: [{SECURE}]
    tls: {{httpsRedirect: true}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: secure}}
spec:
  hosts: [{SECURE}, other.example.com]
  gateways: [secure]
  http: [{{route: [{{destination: {{host: details, port: {{number: 9080}}}}}}]}}]
"""
OPENED = f"""
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: secure}}
spec:
  gatewayClassName: warren
  listeners:
  - name: https
    port: {OTHER_PORT}
    protocol: HTTPS
    hostname: "*.example.com"
    tls: {{certificateRefs: [{{name: shop, namespace: istio-system}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: secure}}
spec:
  parentRefs: [{{name: secure}}]
  rules: [{{backendRefs: [{{name: details, port: 9080}}]}}]
"""
GRANT = """
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: secure, namespace: istio-system}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}]
  to: [{group: "", kind: Secret}]
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "outside")


def put_secret(lab: Lab, name: str, certificate: Certificate, ca: str = "") -> None:
    data = {"tls.crt": certificate.chain.read_text(), "tls.key": certificate.key.read_text()}
    data |= {"ca.crt": ca} if ca else {}
    metadata = {"name": name, "namespace": "istio-system"}
    kind = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls"}
    lab.cluster.put([{**kind, "metadata": metadata, "stringData": data}])


@pytest.fixture(scope="module")
def secure(lab: Lab, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certificate]:
    """With the TLS servers, which are there before their Secrets; gives a client's certificate."""
    file = tmp_path_factory.mktemp("tls") / "tls.yaml"
    file.write_text(TLS)
    with applied(lab, file):
        put_secret(lab, "shop", authority.issue(SECURE), authority.root)
        put_secret(lab, "other", authority.issue("other.example.com"))
        until(lambda: ask_tls(lab, authority).status == 200, what="the certificate is there")
        yield authority.issue("client.example.com")


def ask_tls(
    lab: Lab, authority: Authority, *options: str, port: int = TLS_PORT, host: str = SECURE
) -> Answer:
    trust = ("--cacert", str(authority.root_file))
    return curl(f"https://{host}:{port}/", *trust, *options, to=door(lab, port)[1])


def test_clients_choose_the_version_of_http(lab: Lab, authority: Authority, secure: Certificate) -> None:
    for option, version in (("--http1.1", "1.1"), ("--http2", "2")):
        answer = ask_tls(lab, authority, option)
        assert (answer.status, answer.version) == (200, version)
        assert json.loads(answer.body)["request"]["headers"]["x-forwarded-proto"] == "https"


def test_a_connection_is_for_the_hosts_of_its_certificate(
    lab: Lab, authority: Authority, secure: Certificate
) -> None:
    assert ask_tls(lab, authority, host="other.example.com").status == 200
    assert ask_tls(lab, authority, "-H", "Host: other.example.com").status == 421
    assert ask_tls(lab, authority, "-H", "Host: else.example.com").status == 404
    assert ask_tls(lab, authority, "--insecure", host="else.example.com").exit == HANDSHAKE_FAILED


def test_versions_of_tls_are_bounded(lab: Lab, authority: Authority, secure: Certificate) -> None:
    old = ("--tls-max", "1.2")
    assert ask_tls(lab, authority, *old).status == 200
    assert ask_tls(lab, authority, *old, host="other.example.com").exit == HANDSHAKE_FAILED


def test_clients_show_a_certificate_where_that_is_asked_for(
    lab: Lab, authority: Authority, secure: Certificate, tmp_path: Path
) -> None:
    def shown(certificate: Certificate) -> tuple[str, ...]:
        return "--cert", str(certificate.chain), "--key", str(certificate.key)

    assert ask_tls(lab, authority, *shown(secure), port=MUTUAL_PORT).status == 200
    assert ask_tls(lab, authority, port=MUTUAL_PORT).status == 0
    stranger = Authority(tmp_path, "stranger").issue("client.example.com")
    assert ask_tls(lab, authority, *shown(stranger), port=MUTUAL_PORT).status == 0


def test_plain_text_is_redirected(lab: Lab, authority: Authority, secure: Certificate) -> None:
    answer = curl(f"http://{SECURE}/a?b=c", to=door(lab, 80)[1])
    assert (answer.status, answer.redirect) == (301, f"https://{SECURE}/a?b=c")


def test_secrets_of_other_namespaces_need_a_grant(
    lab: Lab, authority: Authority, secure: Certificate, tmp_path: Path
) -> None:
    files = {"opened": OPENED, "grant": GRANT}
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    with applied(lab, tmp_path / "opened.yaml"):
        with applied(lab, tmp_path / "grant.yaml"):
            until(lambda: ask_tls(lab, authority, port=OTHER_PORT).status == 200, what="it is granted")
        until(lambda: ask_tls(lab, authority, port=OTHER_PORT).status == 0, what="the grant is gone")


def test_certificates_are_exchanged_without_a_break(
    lab: Lab, authority: Authority, secure: Certificate
) -> None:
    """100 new connections a second, while the Secret gets another certificate several times."""
    context = ssl.create_default_context(cadata=authority.root)
    request = f"GET / HTTP/1.1\r\nHost: {SECURE}\r\nConnection: close\r\n\r\n".encode()
    address, serials = door(lab, TLS_PORT), set[str]()

    def connect() -> None:
        plain = socket.create_connection(address, timeout=20)
        with context.wrap_socket(plain, server_hostname=SECURE) as sock:
            serials.add(str((sock.getpeercert() or {})["serialNumber"]))
            sock.sendall(request)
            assert sock.recv(100).startswith(b"HTTP/1.1 200")

    with ThreadPoolExecutor(20) as pool:
        begun, began = list[Future[None]](), time.monotonic()
        for wanted in (2, 3):
            put_secret(lab, "shop", authority.issue(SECURE), authority.root)
            while len(serials) < wanted and time.monotonic() - began < LONGEST:
                until(lambda: len(begun) < (time.monotonic() - began) * RATE)
                begun.append(pool.submit(connect))
        failed = [error for one in begun if (error := one.exception())]
    assert not failed and len(serials) == 3, (failed[:3], serials, len(begun))
    assert len(begun) > RATE


# ---- policies --------------------------------------------------------------------------------------------

SELECTS = {"matchLabels": {"istio": "ingressgateway"}}
EDGE, CLIENT = "istio-system", "192.0.2.7"
SECURITY = "security.istio.io/v1"
TOKENS = SAMPLES.parent / "security" / "tools" / "jwt" / "samples"
V1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x12\x67\0\x50"
TCP_PORT = 9080
TCP = f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: bytes}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {TCP_PORT}, name: tcp, protocol: TCP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bytes}}
spec:
  hosts: ["*"]
  gateways: [bytes]
  tcp: [{{route: [{{destination: {{host: details, port: {{number: 9080}}}}}}]}}]
"""


def policy(name: str, namespace: str = EDGE, kind: str = "AuthorizationPolicy", **spec: object) -> Body:
    return {
        "apiVersion": SECURITY,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


@contextmanager
def in_force(lab: Lab, *bodies: Body) -> Iterator[None]:
    lab.cluster.put(bodies)
    try:
        yield
    finally:
        for one in bodies:
            lab.cluster.delete(Key(one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]))
        until(lambda: ask(lab, "/productpage").status == 200, what="it is open again")


@contextmanager
def behind(lab: Lab, **topology: object) -> Iterator[None]:
    """With something before the gateway, as an annotation of its pod says."""
    key = next(
        Key("Pod", pod.namespace, pod.name) for pod in lab.pods if pod.name.startswith("istio-ingressgateway")
    )
    before = lab.cluster.objects[key]
    config = {"proxy.istio.io/config": json.dumps({"gatewayTopology": topology})}
    metadata = before["metadata"]
    annotations = {**metadata.get("annotations", {}), **config}
    lab.cluster.put([{**before, "metadata": {**metadata, "annotations": annotations}}])
    try:
        yield
    finally:
        lab.cluster.put([{**before, "metadata": {**metadata, "annotations": {}}}])
        until(lambda: not is_closed(door(lab)), what="nothing is before it")


def test_requests_from_outside_are_judged(lab: Lab) -> None:
    """403 from the gateway: the application sees nothing of them."""
    rule = {"to": [{"operation": {"methods": ["GET"], "paths": ["/productpage"]}}]}
    with in_force(lab, policy("pages", selector=SELECTS, action="ALLOW", rules=[rule])):
        until(lambda: ask(lab, "/static/x").status == 403, what="the policy holds")
        assert ask(lab, "/static/x").body == b"RBAC: access denied"
        assert ask(lab, "/productpage").status == 200
        assert ask(lab, "//productpage").status == 403


def test_a_policy_for_connections_alone_answers_in_http(lab: Lab) -> None:
    rule = {"from": [{"source": {"ipBlocks": ["127.0.0.0/8"]}}]}
    with in_force(lab, policy("nobody", selector=SELECTS, action="DENY", rules=[rule])):
        until(lambda: ask(lab, "/productpage").status == 403, what="the policy holds")


def test_plain_text_from_outside_is_no_business_of_strict(lab: Lab) -> None:
    strict = policy("default", kind="PeerAuthentication", mtls={"mode": "STRICT"})
    closed = policy(
        "closed", selector=SELECTS, action="DENY", rules=[{"to": [{"operation": {"paths": ["/x"]}}]}]
    )
    with in_force(lab, strict, closed):
        until(lambda: ask(lab, "/x").status == 403, what="what was put with it holds")
        assert ask(lab, "/productpage").status == 200


def test_clients_are_known_by_proxies_that_are_trusted(lab: Lab) -> None:
    rule = {"from": [{"source": {"remoteIpBlocks": [f"{CLIENT}/32"]}}]}
    trusted = f"{CLIENT}, 198.51.100.1"
    only = policy("client", selector=SELECTS, action="ALLOW", rules=[rule])

    def forward(hops: str) -> asking.Answer:
        return asking.ask(
            door(lab), "bookinfo.example.com", "/productpage", headers={"x-forwarded-for": hops}
        )

    with in_force(lab, only), behind(lab, numTrustedProxies=2):
        until(lambda: ask(lab, "/productpage").status == 403, what="the policy holds")
        until(lambda: forward(trusted).status == 200, what="two proxies are trusted")
        assert forward(trusted).seen["x-envoy-external-address"] == CLIENT
        assert forward(f"{trusted}, 203.0.113.9").status == 403


@pytest.mark.parametrize("head", [V1, V2], ids=["v1", "v2"])
def test_clients_are_known_by_the_proxy_protocol(lab: Lab, head: bytes) -> None:
    rule = {"from": [{"source": {"remoteIpBlocks": [f"{CLIENT}/32"]}}]}
    only = policy("client", selector=SELECTS, action="ALLOW", rules=[rule])
    with in_force(lab, only), behind(lab, proxyProtocol={}):
        until(lambda: said(lab, head).startswith(b"HTTP/1.1 200"), what="the head is read")
        assert CLIENT.encode() in said(lab, head)
        assert said(
            lab, head.replace(b"\xc0\0\x02\x07", b"\xc0\0\x02\x08").replace(b"2.7", b"2.8")
        ).startswith(b"HTTP/1.1 403")
        assert said(lab, b"") == b"", "without one it is reset"


def said(lab: Lab, head: bytes) -> bytes:
    """What the gateway answers to a request behind a head; nothing where it does not."""
    request = b"GET /productpage HTTP/1.1\r\nHost: bookinfo.example.com\r\nConnection: close\r\n\r\n"
    with socket.create_connection(door(lab), timeout=20) as sock:
        sock.sendall(head + request)
        try:
            return b"".join(iter(lambda: sock.recv(1 << 16), b""))
        except ConnectionResetError:
            return b""


def test_tokens_are_asked_for_at_the_door(lab: Lab) -> None:
    issuer, token = "testing@secure.istio.io", (TOKENS / "demo.jwt").read_text().strip()
    keys = (TOKENS / "jwks.json").read_text()
    tokens = policy(
        "tokens", kind="RequestAuthentication", selector=SELECTS, jwtRules=[{"issuer": issuer, "jwks": keys}]
    )
    needed = policy(
        "needed",
        selector=SELECTS,
        action="DENY",
        rules=[{"from": [{"source": {"notRequestPrincipals": ["*"]}}]}],
    )
    with in_force(lab, tokens, needed):
        until(lambda: ask(lab, "/productpage").status == 403, what="a token is needed")
        until(
            lambda: ask(lab, "/productpage", authorization=f"Bearer {token}").status == 200, what="it is good"
        )
        refused = ask(lab, "/productpage", authorization=f"Bearer {token[:-4]}AAAA")
        assert refused.status == 401 and 'error="invalid_token"' in refused.headers["www-authenticate"]


def test_what_is_attached_to_one_gateway_holds_there(lab: Lab) -> None:
    """Beside Istio's Gateway in the same pod."""
    target = [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "bookinfo-gateway"}]
    closed = policy("closed", "default", targetRefs=target)
    with applied(lab, SAMPLES / "bookinfo" / "gateway-api" / "bookinfo-gateway.yaml"):
        until(lambda: status(lab, GATEWAY_API_PORT) == 200, what="the page")
        with in_force(lab, closed):
            until(lambda: status(lab, GATEWAY_API_PORT) == 403, what="it holds")
            assert ask(lab, "/productpage").status == 200
        until(lambda: status(lab, GATEWAY_API_PORT) == 200, what="it is gone")


def test_connections_end_when_a_policy_shuts_them_out(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "tcp.yaml"
    file.write_text(TCP)
    with applied(lab, file):
        until(lambda: not is_closed(door(lab, TCP_PORT)), what="the port is open")
        with socket.create_connection(door(lab, TCP_PORT), timeout=20) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: details\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
            rule = {"from": [{"source": {"ipBlocks": ["127.0.0.1"]}}]}
            with in_force(lab, policy("nobody", selector=SELECTS, action="DENY", rules=[rule])):
                with contextlib.suppress(ConnectionResetError):
                    while sock.recv(1 << 16):
                        pass
                assert is_closed(door(lab, TCP_PORT))
