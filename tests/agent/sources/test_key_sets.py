"""Key sets of tokens: fetched from a real server within bounds, kept when it is gone, put into objects."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

from agent.fetching import FetchError, Reach
from agent.model.schema.istio.request_authentication import RequestAuthentication
from agent.model.schema.objects import Key
from agent.sources import key_sets
from agent.sources.key_sets import KeySets, fetch
from agent.sources.source import Changes
from protocols.policies import TOKENS
from tests.agent.model.objects import make
from tests.support.eventually import eventually
from tests.support.wait import PATIENCE

KEY = Key("RequestAuthentication", "default", "r")
SET = {"keys": [{"kty": "RSA", "n": "x", "e": "AQAB"}]}
Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def serving(answer: Callable[[str], Answer]) -> Iterator[str]:
    """A server on loopback; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):  # who asked has seen enough
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def good(body: Any) -> Answer:
    return 200, {}, json.dumps(body).encode()


def test_a_set_is_had_by_its_address_or_by_its_issuers_document() -> None:
    places: list[str] = []

    def answer(path: str) -> Answer:
        discovery = path == "/realm/.well-known/openid-configuration"
        return good({"jwks_uri": f"{places[0]}/keys?a=b"} if discovery else SET)

    with serving(answer) as base:
        places.append(base)
        for named in (f"{base}/keys", f"{base}/realm/.well-known/openid-configuration"):
            assert json.loads(fetch(named, "any", redirects=False)) == SET


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((404, {}, b""), "answers 404"),
        ((200, {}, b"no"), "answers no JSON"),
        ((200, {}, b"[]"), "answers no JSON object"),
        ((200, {}, b"{}"), "is no JSON Web Key Set"),
        ((200, {}, b" " * (1 << 21)), "answers more than 1048576 bytes"),
        ((302, {"Location": "/other"}, b""), "answers 302"),
    ],
)
def test_what_is_no_set_is_told(answer: Answer, says: str) -> None:
    with serving(lambda _: answer) as base, pytest.raises(FetchError, match=says):
        fetch(f"{base}/keys", "any", redirects=False)


def test_redirects_are_followed_where_they_may_be() -> None:
    with serving(lambda path: good(SET) if path == "/b" else (302, {"Location": "/b"}, b"")) as base:
        assert fetch(f"{base}/a", "any", redirects=True)
    with (
        serving(lambda _: (302, {"Location": "/b"}, b"")) as base,
        pytest.raises(FetchError, match="redirects"),
    ):
        fetch(f"{base}/a", "any", redirects=True)
    outside = (302, {"Location": "file:///etc/passwd"}, b"")
    with serving(lambda _: outside) as base, pytest.raises(FetchError, match="is no http:// or https://"):
        fetch(f"{base}/a", "any", redirects=True)


@pytest.mark.parametrize(
    ("url", "reach"),
    [
        ("http://127.0.0.1/", "private"),
        ("http://localhost/", "private"),
        ("http://[::1]/", "private"),
        ("http://169.254.169.254/latest", "private"),
        ("http://0.0.0.0/", "private"),
        ("http://10.0.0.1/", "public"),
        ("http://[fd00::1]/", "public"),
    ],
)
def test_addresses_that_are_excluded_are_not_asked(url: str, reach: Reach) -> None:
    with pytest.raises(FetchError, match=f"which --jwks-reach {reach} excludes"):
        fetch(url, reach, redirects=False)


def authentication(uri: str) -> RequestAuthentication:
    item = make("RequestAuthentication", "r", "default", spec={"jwtRules": [{"issuer": "i", "jwksUri": uri}]})
    assert isinstance(item, RequestAuthentication)
    return item


@asynccontextmanager
async def following(
    changes: "asyncio.Queue[Changes]", sets: KeySets | None = None
) -> AsyncIterator[AsyncGenerator[Changes, None]]:
    async def source() -> AsyncGenerator[Changes, None]:
        while True:
            yield await changes.get()

    followed = (sets or KeySets("any")).follow(source())
    try:
        yield followed
    finally:
        await followed.aclose()


def jwks(changes: Changes) -> list[str]:
    return [rule.jwks for _, item in changes for rule in item.spec.jwt_rules]  # type: ignore[union-attr]


async def test_an_object_has_its_keys_as_soon_as_they_are_there() -> None:
    changes: asyncio.Queue[Changes] = asyncio.Queue()
    with serving(lambda _: good(SET)) as base:
        async with following(changes) as followed:
            other = (Key("Service", "default", "s"), None)
            changes.put_nowait([other])
            await anext(followed)
            changes.put_nowait([(KEY, authentication(f"{base}/keys")), other])
            first = await anext(followed)
            assert (jwks(first[:1]), first[1]) == ([""], other), "nobody waits for them"
            then = await asyncio.wait_for(anext(followed), PATIENCE)
            assert json.loads(jwks(then)[0]) == SET
            changes.put_nowait([(KEY, authentication(f"{base}/keys"))])
            assert json.loads(jwks(await anext(followed))[0]) == SET, "they are known"


async def test_the_last_good_ones_stay_while_the_server_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(key_sets, "REFRESH", 0.01)
    monkeypatch.setattr(key_sets, "RETRY", 0.01)
    answers = [(500, {}, b""), good(SET)]
    changes: asyncio.Queue[Changes] = asyncio.Queue()
    with serving(lambda _: answers.pop() if len(answers) > 1 else answers[0]) as base:
        async with following(changes) as followed:
            changes.put_nowait([(KEY, authentication(f"{base}/keys"))])
            await anext(followed)
            assert json.loads(jwks(await asyncio.wait_for(anext(followed), PATIENCE))[0]) == SET
            await eventually(lambda: "the last good ones stay in force" in caplog.text)
            changes.put_nowait([(KEY, authentication(f"{base}/keys"))])
            assert json.loads(jwks(await anext(followed))[0]) == SET
            changes.put_nowait([(KEY, None)])
            assert await anext(followed) == [(KEY, None)]


async def test_the_first_state_has_its_keys() -> None:
    changes: asyncio.Queue[Changes] = asyncio.Queue()
    with serving(lambda _: good(SET)) as base:
        async with following(changes) as followed:
            changes.put_nowait([(KEY, authentication(f"{base}/keys"))])
            assert json.loads(jwks(await anext(followed))[0]) == SET


async def test_the_first_state_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sets, "FIRST", 0.01)
    changes: asyncio.Queue[Changes] = asyncio.Queue()
    asked, answered = Event(), Event()

    def answer(_: str) -> Answer:
        asked.set()
        answered.wait(PATIENCE)
        return good(SET)

    with serving(answer) as base:
        async with following(changes) as followed:
            try:
                changes.put_nowait([(KEY, authentication(f"{base}/keys"))])
                assert jwks(await asyncio.wait_for(anext(followed), PATIENCE)) == [""]
            finally:
                answered.set()


async def test_an_unknown_key_has_the_set_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the policy that is named, and not before a while after the last time."""
    monkeypatch.setattr(key_sets, "AGAIN", 0.2)
    answers, times = [SET, {"keys": [{"kid": "2"}]}], list[float]()

    def answer(_: str) -> Answer:
        times.append(time.monotonic())
        return good(answers[len(times) > 1])

    changes: asyncio.Queue[Changes] = asyncio.Queue()
    sets = KeySets("any")
    with serving(answer) as base:
        async with following(changes, sets) as followed:
            changes.put_nowait([(KEY, authentication(f"{base}/keys"))])
            await anext(followed)
            sets.renew(["default/other", f"default/{TOKENS}none"])
            sets.renew([f"default/{TOKENS}{KEY.name}"])
            while (found := json.loads(jwks(await asyncio.wait_for(anext(followed), PATIENCE))[0])) == SET:
                pass
            assert found == answers[1]
            assert len(times) == 2 and times[1] - times[0] >= key_sets.AGAIN
