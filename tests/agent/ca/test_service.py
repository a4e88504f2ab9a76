"""The authority as a client sees it: over TLS, by status and by what it counts."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.model.objects import Key
from tests.support.authority import DB, WEB, RunningAuthority, authority, csr

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


async def test_bad_tokens_are_only_looked_at_so_often(ca: RunningAuthority) -> None:
    answers = []
    for _ in range(40):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ca.ask(authorization="Bearer wrong")
        answers.append(caught.value.code())
    assert set(answers[:30]) == {Status.UNAUTHENTICATED}
    assert answers[-1] is Status.RESOURCE_EXHAUSTED
