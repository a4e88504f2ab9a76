"""The key sets that RequestAuthentications name by an address: fetched, kept fresh, and put into the objects.

What goes on is the object with the keys in it, so that all after it is a function of objects. A set that
cannot be fetched leaves the last good one in force; where there was none, no token of that issuer is valid.
"""

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, Iterable, Iterator

from msgspec.structs import replace

from agent.fetching import FetchError, Reach, get
from agent.model.schema.istio.request_authentication import JwtRule, RequestAuthentication
from agent.model.schema.objects import Key, Object
from agent.sources.source import Changes
from protocols.policies import TOKENS

log = logging.getLogger(__name__)

REFRESH = 20 * 60.0  # seconds, as istiod
RETRY = 60.0
AGAIN = 5.0  # from one fetch until the next one that an unknown key may cause
FIRST = 3.0  # that the first state waits for its keys
_DISCOVERY = "/.well-known/openid-configuration"


class KeySets:
    """Those that are named now. reach: at which addresses; redirects: whether these are followed."""

    def __init__(self, reach: Reach = "private", *, redirects: bool = False) -> None:
        self._reach: Reach = reach
        self._redirects = redirects
        self._objects: dict[Key, RequestAuthentication] = {}
        self._sets: dict[str, _KeySet] = {}  # by `_named`
        self._fresh: asyncio.Queue[str] = asyncio.Queue()
        self._began = False

    async def follow(self, changes: AsyncGenerator[Changes, None]) -> AsyncGenerator[Changes, None]:
        """A source's changes with keys in them; and more of them, when keys have changed."""
        own: asyncio.Future[str] = asyncio.ensure_future(self._fresh.get())
        others = asyncio.ensure_future(anext(changes))
        try:
            while True:
                done, _ = await asyncio.wait((own, others), return_when=asyncio.FIRST_COMPLETED)
                if others in done:
                    yield await self._take(others.result())
                    others = asyncio.ensure_future(anext(changes))
                if own in done:
                    named = own.result()
                    own = asyncio.ensure_future(self._fresh.get())
                    yield [(key, self._with_keys(one)) for key, one in self._naming(named)]
        except StopAsyncIteration:
            return
        finally:
            own.cancel()
            others.cancel()
            for one in self._sets.values():
                one.task.cancel()

    def renew(self, policies: Iterable[str]) -> None:
        """Tokens name a key that is in none of the sets of these policies: fetch them, if not just done."""
        for policy in policies:
            namespace, _, name = policy.partition("/")
            item = self._objects.get(Key("RequestAuthentication", namespace, name.removeprefix(TOKENS)))
            for rule in item.spec.jwt_rules if item else ():
                if known := self._sets.get(_named(rule)):
                    known.wanted.set()

    async def _take(self, changes: Changes) -> Changes:
        for key, item in changes:
            if key.kind == "RequestAuthentication":
                self._objects.pop(key, None)
            if isinstance(item, RequestAuthentication):
                self._objects[key] = item
        self._fetch_what_is_named()
        if not self._began:
            # Of an agent that comes back tunnels would hear that no token is valid.
            self._began = True
            await self._first_tries()
        return [(key, self._with_keys(item)) for key, item in changes]

    async def _first_tries(self) -> None:
        tries = [asyncio.create_task(one.tried.wait()) for one in self._sets.values()]
        if tries:
            _, late = await asyncio.wait(tries, timeout=FIRST)
            for one in late:
                one.cancel()

    def _fetch_what_is_named(self) -> None:
        named = {
            _named(rule) for item in self._objects.values() for rule in item.spec.jwt_rules if not rule.jwks
        }
        for gone in self._sets.keys() - named:
            self._sets.pop(gone).task.cancel()
        for new in named - self._sets.keys():
            self._sets[new] = one = _KeySet()
            one.task = asyncio.create_task(self._keep_fresh(new, one))

    async def _keep_fresh(self, named: str, one: "_KeySet") -> None:
        while True:
            try:
                keys = await asyncio.to_thread(fetch, named, self._reach, redirects=self._redirects)
            except FetchError as error:
                kept = "the last good ones stay in force" if one.keys else "no token is valid"
                log.warning("keys of %s: %s; %s", named, error, kept)
                pause = RETRY
            else:
                pause = REFRESH
                if one.keys != keys:
                    one.keys = keys
                    self._fresh.put_nowait(named)
            one.tried.set()
            await one.next_fetch(pause * random.uniform(0.8, 1.2))

    def _naming(self, named: str) -> Iterator[tuple[Key, RequestAuthentication]]:
        for key, item in self._objects.items():
            if any(_named(rule) == named for rule in item.spec.jwt_rules):
                yield key, item

    def _with_keys(self, item: Object | None) -> Object | None:
        if not isinstance(item, RequestAuthentication):
            return item
        rules = (rule if rule.jwks else self._filled(rule) for rule in item.spec.jwt_rules)
        return replace(item, spec=replace(item.spec, jwt_rules=tuple(rules)))

    def _filled(self, rule: JwtRule) -> JwtRule:
        keys = self._sets[_named(rule)].keys
        return replace(rule, jwks=keys, jwks_uri="") if keys else rule


class _KeySet:
    """Of one address. keys: empty before there are any; tried: they were fetched, or could not be."""

    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.keys = ""
        self.tried, self.wanted = asyncio.Event(), asyncio.Event()

    async def next_fetch(self, pause: float) -> None:
        """After a pause in seconds, or when it is wanted: not before `AGAIN`."""
        self.wanted.clear()
        until = asyncio.get_running_loop().time() + pause
        await asyncio.sleep(min(AGAIN, pause))
        try:
            async with asyncio.timeout_at(until):
                await self.wanted.wait()
        except TimeoutError:
            pass


def _named(rule: JwtRule) -> str:
    """Where its keys are; else the issuer's document is that says where (OpenID Connect Discovery 1.0)."""
    return rule.jwks_uri or rule.issuer.rstrip("/") + _DISCOVERY


def fetch(named: str, reach: Reach, *, redirects: bool) -> str:
    """A key set. Raises FetchError."""
    document = get(named, reach, redirects=redirects)
    if named.endswith(_DISCOVERY):
        where = document.get("jwks_uri")
        if not isinstance(where, str):
            raise FetchError("the document names no jwks_uri")
        document = get(where, reach, redirects=redirects)
    if not isinstance(document.get("keys"), list):
        raise FetchError("the answer is no JSON Web Key Set")
    return json.dumps({"keys": document["keys"]}, sort_keys=True)
