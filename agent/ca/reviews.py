"""Which node a bearer token stands for: by the API server's review, and the pod of the token."""

import asyncio
import base64
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from agent.ca.errors import Reason, Refusal
from agent.ca.placement import Placement
from agent.kube.client import Client
from agent.kube.errors import ApiError

log = logging.getLogger("warren.ca")

AUDIENCE = "istio-ca"
_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_TIMEOUT = 5.0  # seconds
_GOOD, _BAD = 60.0, 10.0  # seconds for which an answer is believed
_MOST = 4096  # answers that are kept
_AT_ONCE, _WAITING = 8, 1024  # reviews under way, and all that are asked for
_SERVICE_ACCOUNTS = "system:serviceaccounts"
_CLAIMS = "authentication.kubernetes.io/"


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}

    def claim(self, name: str) -> str:
        values = self.extra.get(_CLAIMS + name, ())
        return values[0] if len(values) == 1 else ""


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    audiences: tuple[str, ...] = ()
    user: _User = _User()


class _Review(msgspec.Struct):
    status: _Status = _Status()


class _Claims(msgspec.Struct):
    exp: float


class _No(NamedTuple):
    reason: Reason
    text: str


class _Answer(NamedTuple):
    user: _User | _No
    until: float  # Unix time


class Reviews:
    """Tokens of pods of `accounts` ("namespace/name"), such as the kubelet projects them for the tunnel.

    The server's word on a token is believed for a minute, and never beyond the token's end: a node that
    starts with all of its pods costs one review. What is known of the token's pod counts at each request.
    """

    def __init__(self, client: Client, placement: Placement, accounts: Collection[str]) -> None:
        self._client = client
        self._placement = placement
        self._accounts = accounts
        self._answers: OrderedDict[bytes, _Answer] = OrderedDict()
        self._asking: dict[bytes, asyncio.Future[_Answer]] = {}
        # Threads of its own: who floods us with tokens must not keep us from reading which root is in force.
        self._threads = ThreadPoolExecutor(_AT_ONCE, "reviews")

    async def node(self, token: str) -> str:
        """The node on which the pod runs that the token was made for. Raises Refusal."""
        user = (await self._answer(token)).user
        if isinstance(user, _No):
            raise Refusal(*user)
        kind, _, account = user.username.partition("system:serviceaccount:")
        namespace, _, name = account.partition(":")
        if kind or _SERVICE_ACCOUNTS not in user.groups or f"{namespace}/{name}" not in self._accounts:
            raise Refusal(Reason.OTHER_ACCOUNT, f"{user.username} is not the account of a tunnel")
        pod, uid = user.claim("pod-name"), user.claim("pod-uid")
        if not pod or not uid:
            raise Refusal(Reason.NOT_BOUND, "the token is not bound to a pod")
        located = self._placement.pod(namespace, pod)
        if located is None or located.uid != uid or located.service_account != name:
            raise Refusal(Reason.POD_GONE, f"pod {namespace}/{pod} of the token does not run any more")
        # API servers before 1.30 do not say which node.
        if (claimed := user.claim("node-name")) and claimed != located.node:
            raise Refusal(
                Reason.OTHER_NODE, f"the token is of node {claimed}, its pod runs on {located.node}"
            )
        return located.node

    async def _answer(self, token: str) -> _Answer:
        """What there is, or a new one; requests with the same token wait for the same one."""
        digest = hashlib.sha256(token.encode()).digest()
        if (known := self._answers.get(digest)) and time.time() < known.until:
            return known
        asking = self._asking.get(digest)
        if asking is None:
            if len(self._asking) >= _WAITING:
                raise Refusal(Reason.TOO_MANY, "too many tokens wait for their review; try again later")
            asking = asyncio.get_running_loop().run_in_executor(self._threads, self._review, token)
            asking.add_done_callback(lambda _: self._asking.pop(digest))
            self._asking[digest] = asking
        try:
            # A caller that goes away must not take the answer from the others.
            answer = await asyncio.shield(asking)
        except ApiError as error:
            log.error("tokens cannot be reviewed: %s", error)
            raise Refusal(Reason.TOKENS_UNUSABLE, "the authority cannot check tokens now") from error
        self._answers[digest] = answer
        self._answers.move_to_end(digest)
        if len(self._answers) > _MOST:
            self._answers.popitem(last=False)
        return answer

    def _review(self, token: str) -> _Answer:
        """Blocks. Raises ApiError."""
        now = time.time()
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
        except ApiError as error:
            if error.status == 400:  # no token at all
                return _Answer(_No(Reason.UNKNOWN_TOKEN, "the token is malformed"), now + _BAD)
            raise
        if not status.authenticated:
            no = _No(Reason.UNKNOWN_TOKEN, f"the API server knows no such token for audience {AUDIENCE}")
            return _Answer(no, now + _BAD)
        if AUDIENCE not in status.audiences:  # a server that does not look at audiences
            no = _No(Reason.OTHER_AUDIENCE, f"the token is not for audience {AUDIENCE}")
            return _Answer(no, now + _BAD)
        return _Answer(status.user, min(now + _GOOD, _end(token)))


def _end(token: str) -> float:
    """When a token that the API server has vouched for ends, Unix time; 0 when it does not say."""
    try:
        body = token.split(".")[1]
        claims = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        return msgspec.json.decode(claims, type=_Claims).exp
    except (IndexError, ValueError, msgspec.MsgspecError):
        return 0.0
