"""What a capture says of the wire."""

import json

import pytest

from agent.lab import Lab
from agent.lab.capture import Capture, Flow, Traffic, records

HANDSHAKE, DATA, ALERT = b"\x16\x03\x01\x00\x02ab", b"\x17\x03\x03\x00\x01x", b"\x15\x03\x03\x00\x02zz"


@pytest.mark.parametrize(("stream", "found"), [
    (HANDSHAKE + DATA + DATA + ALERT, {"handshake": 1, "application_data": 2, "alert": 1}),
    (DATA[:-1], {"application_data": 1}),
    (DATA + b"\x17\x03", {"application_data": 1}),
    (b"", {}),
    (b"GET / HTTP/1.1\r\n", None),
    (DATA + b"hello", None),
    (b"\x17\x03\x03\xff\xff" + bytes(10), None),
    (b"\x17\x04\x03\x00\x01x", None),
])  # fmt: skip
def test_records(stream: bytes, found: dict[str, int] | None) -> None:
    assert records(stream) == found


def test_one_plain_stream_is_named() -> None:
    one, other = Flow("a", 1, "b", 2), Flow("b", 2, "a", 1)
    traffic = Traffic({one: DATA, other: b"secret!"})
    assert traffic.plain() == traffic.containing(b"secret") == [other]
    assert traffic.records() == {"application_data": 1}


@pytest.mark.parametrize("family", [4, 6])
def test_both_directions_are_put_together(plain: Lab, family: int) -> None:
    client = plain.pod("deploy/client")
    server = next(pod for pod in plain.pods_of("deploy/web") if pod.node != client.node)
    host, peer = (server.ipv4, client.ipv4) if family == 4 else (server.ipv6, client.ipv6)
    url = f"http://[{host}]:8080/" if family == 6 else f"http://{host}:8080/"
    near, far = plain.node(client.node), plain.node(server.node)
    body = "0123456789" * 100_000
    with Capture(near.netns, near.link_to(far)) as capture:
        reply = client.run(["curl", "-sSg", "--data-binary", "@-", url], input=body).stdout
    assert json.loads(reply)["request"]["body_bytes"] == len(body)
    [up] = [flow for flow in capture.traffic.streams if flow.destination == str(host)]
    assert (up.source, up.destination_port) == (str(peer), 8080)
    assert capture.traffic.streams[up].endswith(body.encode())
    down = Flow(up.destination, up.destination_port, up.source, up.source_port)
    assert capture.traffic.streams[down].endswith(reply.encode())
    assert len(capture.traffic.streams) == 2


def test_no_such_link(plain: Lab) -> None:
    with pytest.raises(OSError, match="No such device"):
        Capture(plain.nodes[0].netns, "nope")
