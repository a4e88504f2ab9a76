"""Which node a bearer token stands for: by the API server's review, and the pod of the token."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import NamedTuple

import msgspec

from agent.ca.claims import Claims, Subject, claims
from agent.ca.clock import elapsed
from agent.ca.errors import Reason, Refusal
from agent.ca.limits import Recent, Turns
from agent.ca.placement import Located, Placement
from agent.ca.tokens import Caller
from agent.kube.client import Client
from agent.kube.errors import ApiError

log = logging.getLogger("warren.ca")

AUDIENCE = "istio-ca"
_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_TIMEOUT = 5.0  # seconds
_GOOD, _BAD = 60.0, 10.0  # seconds for which an answer is believed
_MOST = 8192  # answers that are kept, of good tokens as of bad ones
_AT_ONCE, _WAITING = 8, 512  # reviews under way, and tokens of one address and pod that wait for one
_SERVICE_ACCOUNTS = "system:serviceaccounts"
_CLAIMS = "authentication.kubernetes.io/"


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}

    def claim(self, name: str) -> str:
        values = self.extra.get(_CLAIMS + name, ())
        return values[0] if len(values) == 1 else ""

    @property
    def subject(self) -> Subject:
        return Subject.of(self.username, self.claim("pod-name"), self.claim("pod-uid"))


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    audiences: tuple[str, ...] = ()
    user: _User = _User()


class _Review(msgspec.Struct):
    status: _Status = _Status()


class _No(NamedTuple):
    reason: Reason
    text: str


class _Answer(NamedTuple):
    user: _User | _No
    until: float  # by `elapsed`


class Reviews:
    """Tokens of pods of `accounts` ("namespace/name"), such as the kubelet projects them for the tunnel.

    The server's word on a token is believed for a minute, and never beyond the token's end: a node that
    starts with all of its pods costs one review. What is known of the token's pod counts at each request.

    Nobody loses by what others send. A token that does not even claim to be of a tunnel's pod that runs costs
    no review. Those that do are reviewed one after the other for each address and pod that they claim. Bad
    answers push no good ones out of memory.
    """

    def __init__(
        self, client: Client, placement: Placement, accounts: Collection[str], now: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._placement = placement
        self._accounts = accounts
        self._now = now
        self._good: Recent[bytes, _Answer] = Recent(_MOST)
        self._bad: Recent[bytes, _Answer] = Recent(_MOST)
        self._asking: dict[bytes, asyncio.Task[_Answer]] = {}
        self._turns = Turns(_WAITING)
        # Threads of its own: who floods us with tokens must not keep us from reading which root is in force.
        self._threads = ThreadPoolExecutor(_AT_ONCE, "reviews")

    async def caller(self, token: str, address: str) -> Caller:
        """The node on which the pod runs that the token was made for, or the gateway that it is.

        Raises Refusal.
        """
        said = claims(token)
        if said is None:
            raise Refusal(Reason.UNKNOWN_TOKEN, "the token is no service account's")
        self._locate(said.subject)
        user = (await self._answer(token, said, address)).user
        if isinstance(user, _No):
            raise Refusal(*user)
        if _SERVICE_ACCOUNTS not in user.groups:
            raise Refusal(Reason.OTHER_ACCOUNT, f"{user.username} is no service account")
        located = self._locate(user.subject)
        # API servers before 1.30 do not say which node.
        if (claimed := user.claim("node-name")) and claimed != located.node:
            raise Refusal(
                Reason.OTHER_NODE, f"the token is of node {claimed}, its pod runs on {located.node}"
            )
        if self._is_tunnels(user.subject):
            return Caller(located.node)
        return Caller(located.node, user.subject[:3])

    def _is_tunnels(self, subject: Subject) -> bool:
        return f"{subject.namespace}/{subject.account}" in self._accounts

    def _locate(self, subject: Subject) -> Located:
        """The pod that the token is bound to; it may be another's text. Raises Refusal."""
        namespace, account, pod, uid = subject
        located = self._placement.pod(namespace, pod)
        if not self._is_tunnels(subject) and not (located and located.gateway):
            name = f"{namespace}/{account}"
            text = f"service account {name!r:.100} is not a tunnel's, nor is its pod a gateway"
            raise Refusal(Reason.OTHER_ACCOUNT, text)
        if not pod or not uid:
            raise Refusal(Reason.NOT_BOUND, "the token is not bound to a pod")
        if located is None or located.uid != uid or located.service_account != account:
            raise Refusal(Reason.POD_GONE, f"pod {pod!r:.100} of the token does not run any more")
        return located

    async def _answer(self, token: str, said: Claims, address: str) -> _Answer:
        """What there is, or a new one; requests with the same token wait for the same one."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._good.get(digest) or self._bad.get(digest)
        if known and elapsed() < known.until:
            return known
        asking = self._asking.get(digest)
        if asking is None:
            asking = asyncio.create_task(self._ask(token, said, address))
            asking.add_done_callback(lambda _: self._asking.pop(digest))
            self._asking[digest] = asking
        try:
            # A caller that goes away must not take the answer from the others.
            answer = await asyncio.shield(asking)
        except ApiError as error:
            log.error("tokens cannot be reviewed: %s", error)
            raise Refusal(Reason.TOKENS_UNUSABLE, "the authority cannot check tokens now") from error
        (self._bad if isinstance(answer.user, _No) else self._good).put(digest, answer)
        return answer

    async def _ask(self, token: str, said: Claims, address: str) -> _Answer:
        """Raises Refusal, ApiError."""
        async with self._turns.turn((address, said.subject.uid)) as granted:
            if not granted:
                raise Refusal(Reason.TOO_MANY, "too many tokens of this pod wait for their review")
            started = elapsed()
            review = partial(self._review, token)
            user = await asyncio.get_running_loop().run_in_executor(self._threads, review)
            left = said.ends - self._now().timestamp()
            return _Answer(user, started + (_BAD if isinstance(user, _No) else min(_GOOD, left)))

    def _review(self, token: str) -> _User | _No:
        """Blocks. Raises ApiError."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        try:
            answer = self._client.request("POST", _PATH, body=body, timeout=_TIMEOUT)
            status = msgspec.json.decode(answer, type=_Review).status
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ApiError(0, "Malformed", f"POST {_PATH}: {error}") from error
        if not status.authenticated:
            return _No(Reason.UNKNOWN_TOKEN, f"the API server knows no such token for audience {AUDIENCE}")
        if AUDIENCE not in status.audiences:  # a server that does not look at audiences
            return _No(Reason.OTHER_AUDIENCE, f"the token is not for audience {AUDIENCE}")
        return status.user
