"""The key sets that RequestAuthentications name by an address: fetched, kept fresh, and put into the objects.

What goes on is the object with the keys in it, so that all after it is a function of objects. A set that
cannot be fetched leaves the last good one in force; where there was none, no token of that issuer is valid.
"""

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, Iterator

from msgspec.structs import replace

from agent.fetching import FetchError, Reach, get
from agent.model.schema.istio.request_authentication import JwtRule, RequestAuthentication
from agent.model.schema.objects import Key
from agent.sources.source import Changes

log = logging.getLogger(__name__)

REFRESH = 20 * 60.0  # seconds, as istiod
_RETRY = 60.0
_DISCOVERY = "/.well-known/openid-configuration"


class KeySets:
    """Those that are named now. reach: at which addresses; redirects: whether these are followed."""

    def __init__(self, reach: Reach = "private", *, redirects: bool = False) -> None:
        self._reach: Reach = reach
        self._redirects = redirects
        self._objects: dict[Key, RequestAuthentication] = {}
        self._keys: dict[str, str] = {}  # by `_named`
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._fresh: asyncio.Queue[str] = asyncio.Queue()

    async def follow(self, changes: AsyncGenerator[Changes, None]) -> AsyncGenerator[Changes, None]:
        """A source's changes with keys in them; and more of them, when keys have changed."""
        own: asyncio.Future[str] = asyncio.ensure_future(self._fresh.get())
        others = asyncio.ensure_future(anext(changes))
        try:
            while True:
                done, _ = await asyncio.wait((own, others), return_when=asyncio.FIRST_COMPLETED)
                if others in done:
                    yield self._take(others.result())
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
            for task in self._tasks.values():
                task.cancel()

    def _take(self, changes: Changes) -> Changes:
        taken: Changes = []
        for key, item in changes:
            if key.kind != "RequestAuthentication":
                taken.append((key, item))
                continue
            self._objects.pop(key, None)
            if isinstance(item, RequestAuthentication):
                self._objects[key] = item
                item = self._with_keys(item)  # noqa: PLW2901
            taken.append((key, item))
        self._fetch_what_is_named()
        return taken

    def _fetch_what_is_named(self) -> None:
        named = {
            _named(rule) for item in self._objects.values() for rule in item.spec.jwt_rules if not rule.jwks
        }
        for gone in self._tasks.keys() - named:
            self._tasks.pop(gone).cancel()
            self._keys.pop(gone, None)
        for new in named - self._tasks.keys():
            self._tasks[new] = asyncio.create_task(self._keep_fresh(new))

    async def _keep_fresh(self, named: str) -> None:
        while True:
            try:
                keys = await asyncio.to_thread(fetch, named, self._reach, redirects=self._redirects)
            except FetchError as error:
                kept = "the last good ones stay in force" if named in self._keys else "no token is valid"
                log.warning("keys of %s: %s; %s", named, error, kept)
                await asyncio.sleep(_RETRY * random.uniform(0.8, 1.2))
                continue
            if self._keys.get(named) != keys:
                self._keys[named] = keys
                self._fresh.put_nowait(named)
            await asyncio.sleep(REFRESH * random.uniform(0.8, 1.2))

    def _naming(self, named: str) -> Iterator[tuple[Key, RequestAuthentication]]:
        for key, item in self._objects.items():
            if any(_named(rule) == named for rule in item.spec.jwt_rules):
                yield key, item

    def _with_keys(self, item: RequestAuthentication) -> RequestAuthentication:
        rules = (rule if rule.jwks else self._filled(rule) for rule in item.spec.jwt_rules)
        return replace(item, spec=replace(item.spec, jwt_rules=tuple(rules)))

    def _filled(self, rule: JwtRule) -> JwtRule:
        keys = self._keys.get(_named(rule), "")
        return replace(rule, jwks=keys, jwks_uri="") if keys else rule


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
