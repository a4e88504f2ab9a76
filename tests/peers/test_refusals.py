"""Peers that may not, and requests that cannot be: each is refused in its own way, counted and logged.

Statuses and alerts are HBONE's, as ztunnel gives them.
"""

import ssl
import subprocess
from collections.abc import Callable

import pytest

from tests.peers.stage import HBONE, OURS, PEER, PORT, Stage, is_reset
from tests.support.certificates import EXPIRED, Authority, Certificate
from tests.support.wait import until

STRANGER = "spiffe://example.com/ns/demo/sa/peer"
OTHER = "spiffe://cluster.local/ns/demo/sa/other"
Issue = Callable[[Authority, Authority], Certificate | None]


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A root that nobody here knows."""
    return Authority(tmp_path_factory.mktemp("strangers"), "example.com")


# Whose certificate, the reason, and the alert that the peer is sent. `ours` and `theirs` are authorities.
CLIENTS: dict[str, tuple[Issue, str, str]] = {
    "another trust domain": (
        lambda ours, theirs: ours.issue(STRANGER),
        "peer_trust_domain",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    ),
    "expired": (
        lambda ours, theirs: ours.issue(PEER, EXPIRED),
        "certificate_expired",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    ),
    "none": (lambda ours, theirs: None, "no_certificate", "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
    "an unknown root": (
        lambda ours, theirs: theirs.issue(PEER),
        "untrusted_certificate",
        "TLSV1_ALERT_UNKNOWN_CA",
    ),
    "no SPIFFE name": (
        lambda ours, theirs: ours.issue("https://example.com/"),
        "peer_trust_domain",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    ),
}


@pytest.mark.parametrize("whose", CLIENTS)
def test_certificate_of_a_client(stage: Stage, strangers: Authority, whose: str) -> None:
    issue, reason, alert = CLIENTS[whose]
    certificate = issue(stage.authority, strangers)
    with (
        stage.refusal("destination", reason, handshake=True) as line,
        stage.tls(certificate) as sock,
        pytest.raises(ssl.SSLError) as refused,
    ):
        sock.recv(1)
    assert refused.value.reason == alert
    assert line["dst.addr"] == f"{stage.ours.v4}:{HBONE}"
    assert line["src.addr"].startswith(f"{stage.peer.v4}:")
    assert "src.identity" not in line, "it has proven nothing"


# Authority and method of a request, the answer's status, and the reason.
REQUESTS = {
    "another address": ("10.9.8.7:7000", "CONNECT", 400, "address_mismatch"),
    "another family's other address": ("[fd99::7]:7000", "CONNECT", 400, "address_mismatch"),
    "not CONNECT": ("{ours}:7000", "GET", 400, "method_not_connect"),
    "no port": ("{ours}", "CONNECT", 400, "bad_authority"),
    "no host": (":7000", "CONNECT", 400, "bad_authority"),
    "port 0": ("{ours}:0", "CONNECT", 400, "bad_authority"),
    "a URL": ("http://{ours}:7000/", "CONNECT", 400, "bad_authority"),
    "nothing": ("", "CONNECT", 400, "bad_authority"),
    "unknown service": ("nobody.demo.svc.cluster.local:80", "CONNECT", 503, "unknown_service"),
    "the outbound port": ("{ours}:15001", "CONNECT", 503, "illegal_port"),
    "the plain port": ("{ours}:15006", "CONNECT", 503, "illegal_port"),
    "the tunnel's port": ("{ours}:15008", "CONNECT", 503, "illegal_port"),
    "nobody listens": ("{ours}:7999", "CONNECT", 503, "connect_failed"),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_request_of_a_client(stage: Stage, what: str) -> None:
    authority, method, status, reason = REQUESTS[what]
    authority = authority.format(ours=stage.ours.v4)
    with stage.refusal("destination", reason) as line, stage.client() as tunnel:
        tunnel.greet()
        stream = tunnel.connect(authority, method=method)
        number, headers = tunnel.read_headers()
        assert (number, headers) == (stream, [(":status", str(status))])
        assert tunnel.alive(), "the tunnel goes on"
    assert line["src.identity"] == PEER
    assert line["direction"] == "inbound"


def test_what_a_peer_says_is_cut_in_the_log(stage: Stage) -> None:
    with stage.refusal("destination", "bad_authority") as line, stage.client() as tunnel:
        tunnel.greet()
        assert tunnel.status(tunnel.connect("0" * 50_000)) == 400
    error = line["error"]
    assert len(error.encode()) < 400 and error.endswith("000…")


def test_refusals_that_are_too_many_for_the_log(stage: Stage) -> None:
    """Over IPv6, for nobody else: what an address may have logged is used up."""
    start, count = stage.log.stat().st_size, 500
    with stage.client(6) as tunnel:
        tunnel.greet()
        streams = [tunnel.connect("nonsense") for _ in range(count)]
        assert [tunnel.status(stream) for stream in streams] == [400] * count

    def told() -> tuple[int, int] | None:
        stage.counted("warren_connections_refused")  # whoever looks at the metrics has the log say the rest
        lines = [line for line in stage.logged(start) if str(stage.peer.v6) in line["src.addr"]]
        refusals = [line for line in lines if line.get("reason") == "bad_authority"]
        withheld = sum(line["count"] for line in lines if "more refusals" in line["message"])
        return (len(refusals), withheld) if len(refusals) + withheld == count else None

    counts = until(told)
    assert counts and counts[0] < 200


def test_a_refused_request_leaves_the_tunnel_to_others(stage: Stage) -> None:
    with stage.listen(stage.ours, PORT) as listener, stage.client() as tunnel:
        tunnel.greet()
        wrong, right = tunnel.connect("10.9.8.7:7000"), tunnel.connect(f"{stage.ours.v4}:{PORT}")
        assert tunnel.status(wrong) == 400
        assert tunnel.status(right) == 200
        far, _ = listener.accept()
        with far:
            tunnel.data(right, b"hello")
            assert far.recv(5) == b"hello"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("-tls1_2", None),
        ("-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"),
        ("-groups", "P-384"),
        ("-alpn", "http/1.1"),
    ],
    ids=["TLS 1.2", "ChaCha20", "P-384", "HTTP/1.1"],
)
def test_client_with_other_cryptography(stage: Stage, option: str, value: str | None) -> None:
    certificate = stage.certificate
    argv = [
        "ip",
        "netns",
        "exec",
        stage.peer.name,
        "openssl",
        "s_client",
        option,
        *([value] if value else []),
    ]
    argv += ["-connect", f"{stage.ours.v4}:{HBONE}"]
    argv += ["-cert", str(certificate.chain), "-key", str(certificate.key), "-CAfile", str(certificate.root)]
    with stage.refusal("destination", "tls_failure", handshake=True):
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "alert" in done.stderr


@pytest.mark.parametrize("group", ["P-256", "X25519"])
@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"])
def test_client_with_one_cipher_and_one_key_exchange(stage: Stage, suite: str, group: str) -> None:
    certificate = stage.certificate
    argv = [
        "ip",
        "netns",
        "exec",
        stage.peer.name,
        "openssl",
        "s_client",
        "-ciphersuites",
        suite,
        "-groups",
        group,
    ]
    argv += ["-connect", f"{stage.ours.v4}:{HBONE}", "-alpn", "h2", "-brief"]
    argv += ["-cert", str(certificate.chain), "-key", str(certificate.key), "-CAfile", str(certificate.root)]
    done = subprocess.run(
        argv, input="Q\n", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0
    assert f"Ciphersuite: {suite}" in done.stderr
    assert "Protocol version: TLSv1.3" in done.stderr


def test_client_that_is_no_tls(stage: Stage) -> None:
    with stage.refusal("destination", "tls_failure", handshake=True), stage.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: peer\r\n\r\n")
        while sock.recv(100):
            pass


def test_client_that_leaves_within_the_handshake(stage: Stage) -> None:
    with stage.refusal("destination", "tls_failure", handshake=True), stage.connect() as sock:
        sock.sendall(b"\x16\x03\x01\x00\xff\x01")


# What the server at the peer's pod has for a certificate, the reason, and the alert that it is sent.
SERVERS: dict[str, tuple[Issue, str, str]] = {
    "another account": (
        lambda ours, theirs: ours.issue(OTHER),
        "peer_identity",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    ),
    "another trust domain": (
        lambda ours, theirs: ours.issue(STRANGER),
        "peer_identity",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    ),
    "expired": (
        lambda ours, theirs: ours.issue(PEER, EXPIRED),
        "certificate_expired",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    ),
    "an unknown root": (
        lambda ours, theirs: theirs.issue(PEER),
        "untrusted_certificate",
        "TLSV1_ALERT_UNKNOWN_CA",
    ),
}


@pytest.mark.parametrize("whose", SERVERS)
def test_certificate_of_a_server(stage: Stage, strangers: Authority, whose: str) -> None:
    issue, reason, alert = SERVERS[whose]
    certificate = issue(stage.authority, strangers)
    with (
        stage.servers(certificate) as servers,
        stage.refusal("source", reason, handshake=True) as line,
        stage.dial(PORT) as app,
    ):
        with pytest.raises(ssl.SSLError) as refused:
            servers.tls()
        assert refused.value.reason == alert
        assert is_reset(app)
    assert line["src.identity"] == OURS


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "peer_bad_request"),
        (401, "peer_denied"),
        (503, "peer_unavailable"),
        (404, "peer_refused"),
        (204, "peer_refused"),
        (302, "peer_refused"),
    ],
)
def test_answer_of_a_server(stage: Stage, status: int, reason: str) -> None:
    with stage.servers() as servers:
        with stage.refusal("source", reason) as line, stage.dial(PORT) as app:
            tunnel = servers.accept()
            stream, request = tunnel.read_headers()
            assert dict(request)[":authority"] == f"{stage.peer.v4}:{PORT}"
            tunnel.send(tunnel.headers(stream, [(":status", str(status))], end=True))
            assert is_reset(app)
        assert line["error"].endswith(f"answers {status}")
        with stage.dial(PORT) as app:
            stream, _ = tunnel.read_headers()
            tunnel.send(tunnel.headers(stream, [(":status", "200")]))
            app.sendall(b"hello")
            assert tunnel.payload(stream, 5) == b"hello"


def test_nobody_at_the_tunnels_port(stage: Stage) -> None:
    with stage.refusal("source", "connect_failed") as line:
        assert stage.is_refused(PORT)
    assert f"{stage.peer.v4}:{HBONE}" in line["error"]


def test_server_that_is_no_tls(stage: Stage) -> None:
    with (
        stage.listen(stage.peer, HBONE) as listener,
        stage.refusal("source", "tls_failure", handshake=True),
        stage.dial(PORT) as app,
    ):
        sock, _ = listener.accept()
        with sock:
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            assert is_reset(app)


def test_server_that_leaves_within_the_handshake(stage: Stage) -> None:
    with (
        stage.listen(stage.peer, HBONE) as listener,
        stage.refusal("source", "tls_failure", handshake=True),
        stage.dial(PORT) as app,
    ):
        sock, _ = listener.accept()
        with sock:
            assert sock.recv(1 << 16), "the client's first message"
        assert is_reset(app)


def test_server_with_p256_only(stage: Stage) -> None:
    """It asks for another share than those that it was offered."""
    with stage.servers(curve="prime256v1") as servers, stage.dial(PORT) as app:
        tunnel = servers.accept()
        stream, _ = tunnel.read_headers()
        tunnel.send(tunnel.headers(stream, [(":status", "200")]))
        app.sendall(b"hello")
        assert tunnel.payload(stream, 5) == b"hello"
