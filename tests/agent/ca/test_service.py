"""The authority as a client sees it: over TLS, by status and by what it counts."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.ca.service import NAME
from agent.model.schema.objects import Key
from tests.support.authority import DB, WEB, RunningAuthority, authority, csr
from tests.support.wait import PATIENCE

Status = grpc.StatusCode


@pytest_asyncio.fixture
async def ca(tmp_path: Path) -> AsyncIterator[RunningAuthority]:
    async with authority(tmp_path) as running:
        yield running


async def test_the_chain_is_the_leaf_and_the_root(ca: RunningAuthority) -> None:
    leaf, root = await ca.ask()
    assert root == ca.root.read_text()
    issuer = x509.load_pem_x509_certificate(root.encode())
    x509.load_pem_x509_certificate(leaf.encode()).verify_directly_issued_by(issuer)
    assert ca.counted("ok") == 1


@pytest.mark.parametrize(
    ("question", "status", "reason"),
    [
        ({"authorization": None}, Status.UNAUTHENTICATED, "no_token"),
        ({"authorization": "Basic token1"}, Status.UNAUTHENTICATED, "no_token"),
        ({"authorization": "Bearer wrong"}, Status.UNAUTHENTICATED, "unknown_token"),
        ({"authorization": "Bearer token2"}, Status.PERMISSION_DENIED, "not_on_node"),
        ({"identity": DB, "request": csr([DB])}, Status.PERMISSION_DENIED, "not_on_node"),
        ({"identity": WEB.replace("cluster.local", "x")}, Status.PERMISSION_DENIED, "other_trust_domain"),
        ({"identity": None}, Status.INVALID_ARGUMENT, "no_identity"),
        ({"identity": "spiffe://x"}, Status.INVALID_ARGUMENT, "malformed_identity"),
        ({"request": "nonsense"}, Status.INVALID_ARGUMENT, "malformed_request"),
        ({"request": csr([DB])}, Status.INVALID_ARGUMENT, "other_name"),
        (
            {"request": csr(key=rsa.generate_private_key(65537, 1024))},
            Status.INVALID_ARGUMENT,
            "weak_key",
        ),
        ({"validity": -5}, Status.INVALID_ARGUMENT, "bad_validity"),
    ],
)
async def test_refusals(
    ca: RunningAuthority,
    caplog: pytest.LogCaptureFixture,
    question: dict[str, str],
    status: Status,
    reason: str,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ca.ask(**question)  # type: ignore[arg-type]
    assert caught.value.code() is status
    assert ca.counted(reason) == 1
    assert ca.counted("ok") == 0
    refusals = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [reason in record.getMessage() for record in refusals] == [True]
    assert "token" not in refusals[0].getMessage().replace("no_token", "").replace("the token", "").replace(
        "unknown_token", ""
    ).replace("<token>", "")


async def test_a_node_loses_an_identity_with_its_last_pod(ca: RunningAuthority) -> None:
    await ca.ask()
    ca.placement.apply([(Key("Pod", "default", "web"), None)])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ca.ask()
    assert caught.value.code() is Status.PERMISSION_DENIED


async def test_spoilt_tokens_admit_nobody(ca: RunningAuthority) -> None:
    ca.tokens.write_text("{")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ca.ask()
    assert caught.value.code() is Status.UNAVAILABLE


async def test_an_oversized_request_is_refused(ca: RunningAuthority) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ca.ask("x" * 100_000)
    assert caught.value.code() is Status.RESOURCE_EXHAUSTED


async def test_a_node_may_start_with_all_of_its_pods_and_not_ask_on_and_on(
    ca: RunningAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.ca.limits.monotonic", lambda: 0.0)  # in no time
    request = csr()
    for _ in range(300):  # 110 pods, and some more
        await ca.ask(request)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ca.ask(request)
    assert caught.value.code() is Status.RESOURCE_EXHAUSTED
    assert ca.counted("too_many") == 1
    await ca.ask(csr([DB]), DB, "Bearer token2")  # another node


async def test_a_neighbours_bad_tokens_are_nobody_elses_loss(ca: RunningAuthority) -> None:
    """From the same address: several nodes may have one, behind a translation."""
    for number in range(100):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ca.ask(authorization=f"Bearer wrong{number % 50}")
        assert caught.value.code() is Status.UNAUTHENTICATED
    await ca.ask()
    assert ca.counted("unknown_token") == 100


async def test_the_log_has_not_each_of_a_callers_refusals(
    ca: RunningAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        with pytest.raises(grpc.aio.AioRpcError):
            await ca.ask(authorization="Bearer wrong")
    assert 30 <= sum("unknown_token" in record.getMessage() for record in caplog.records) < 60


async def stall(channel: grpc.aio.Channel, authorization: str, count: int) -> None:
    """Begin requests that say nothing."""
    method: Any = channel.stream_unary(f"/{NAME}/CreateCertificate")
    calls = [method(metadata=(("authorization", authorization),)) for _ in range(count)]
    for call in calls:
        with suppress(grpc.aio.AioRpcError):  # refused by then
            await call.wait_for_connection()


@pytest.mark.parametrize("authorization", ["Bearer wrong", "Bearer token2"])
async def test_requests_that_say_nothing_hold_up_nobody_else(
    ca: RunningAuthority, authorization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.ca.service._SAID_WITHIN", 2 * PATIENCE)  # they stay
    credentials = grpc.ssl_channel_credentials(ca.root.read_bytes())
    async with AsyncExitStack() as exits:
        for number in range(25):  # which share no connection
            options = [("grpc.use_local_subchannel_pool", 1), ("test", number)]
            channel = grpc.aio.secure_channel(f"127.0.0.1:{ca.port}", credentials, options)
            await exits.enter_async_context(channel)
            await stall(channel, authorization, 100)
        await ca.ask()
