"""`istio.v1.auth.IstioCertificateService`: how tunnels, ours and ztunnel, ask for certificates."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from agent.ca.authority import Authority
from agent.ca.authorizer import Authorizer
from agent.ca.errors import Reason, Refusal
from agent.ca.limits import Buckets
from agent.ca.metrics import OK, Figures
from protocols.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse

log = logging.getLogger("warren.ca")

NAME = "istio.v1.auth.IstioCertificateService"
_UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_DENIED = grpc.StatusCode.PERMISSION_DENIED
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
# The one place where a reason becomes a status (istiod's, where it has the reason).
STATUS = {
    Reason.NO_TOKEN: _UNAUTHENTICATED,
    Reason.UNKNOWN_TOKEN: _UNAUTHENTICATED,
    Reason.OTHER_AUDIENCE: _UNAUTHENTICATED,
    Reason.NOT_BOUND: _UNAUTHENTICATED,
    Reason.OTHER_ACCOUNT: _DENIED,
    Reason.POD_GONE: _DENIED,
    Reason.OTHER_NODE: _DENIED,
    Reason.TOKENS_UNUSABLE: _UNAVAILABLE,
    Reason.TOO_MANY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.NO_IDENTITY: _INVALID,
    Reason.MALFORMED_IDENTITY: _INVALID,
    Reason.OTHER_TRUST_DOMAIN: _DENIED,
    Reason.NOT_ON_NODE: _DENIED,
    Reason.MALFORMED_REQUEST: _INVALID,
    Reason.BAD_SIGNATURE: _INVALID,
    Reason.WEAK_KEY: _INVALID,
    Reason.OTHER_NAME: _INVALID,
    Reason.BAD_VALIDITY: _INVALID,
    Reason.ROOT_UNKNOWN: _UNAVAILABLE,
    Reason.CLOCK: _UNAVAILABLE,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}
# A node has up to 110 pods by default: its start, and another one after a crash, are let through at once.
_OF_A_NODE = (5.0, 300)  # per second, at once
_SAID_WITHIN = 10.0  # seconds, for the message of a caller that has proven who it is
# Refusals of an address that are logged: what anyone may send must not fill a disk. All are counted.
_LOGGED = (1.0, 30)

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, IstioCertificateResponse]"


class CertificateService:
    """Answers CreateCertificate, and counts how.

    Signing is done where it is asked for: it takes 0.1 ms (RSA of 4096 bits: 2 ms), and the library keeps the
    interpreter's lock meanwhile, so that threads would gain nothing.

    Who calls is looked at before its message is waited for: whoever cannot prove it is refused at once and
    holds nothing. A limit counts what one node asks for, and nobody can ask in the name of another.
    """

    def __init__(self, authority: Authority, authorizer: Authorizer, figures: Figures) -> None:
        self._authority = authority
        self._authorizer = authorizer
        self._results = figures.results
        self._nodes = Buckets(*_OF_A_NODE)
        self._logged = Buckets(*_LOGGED)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Make `server` answer for this service."""
        # A stream of one message is the same on the wire, and lets us begin before the message has come.
        method: grpc.RpcMethodHandler[bytes, IstioCertificateResponse]
        method = grpc.stream_unary_rpc_method_handler(
            self._create_certificate, response_serializer=IstioCertificateResponse.SerializeToString
        )
        handler = grpc.method_handlers_generic_handler(NAME, {"CreateCertificate": method})
        server.add_generic_rpc_handlers((handler,))

    async def _create_certificate(
        self, messages: AsyncIterator[bytes], context: Context
    ) -> IstioCertificateResponse:
        caller = context.peer()
        try:
            response = await self._certify(messages, context)
        except Refusal as refusal:
            result, text = refusal.reason, str(refusal)
            if self._logged.take(_address(context)):
                log.warning("refused %s (%s): %s", caller, result.value, text)
        except Exception as error:  # a caller gets an answer, whatever it sent
            result, text = Reason.INTERNAL, "the authority failed; its log says how"
            log.exception("failed for %s: %s", caller, error)
        else:
            self._results[OK] += 1
            return response
        self._results[result.value] += 1
        await context.abort(STATUS[result], text)
        raise AssertionError("abort() raises")

    async def _certify(self, messages: AsyncIterator[bytes], context: Context) -> IstioCertificateResponse:
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        caller = await self._authorizer.caller(headers.get("authorization"), _address(context))
        if not self._nodes.take(str(caller)):
            raise Refusal(Reason.TOO_MANY, f"{caller} asks too often; try again later")
        request = await _message(messages)
        identity = self._authorizer.identity(caller, _text(request.metadata, "ImpersonatedIdentity"))
        issued = self._authority.issue(request.csr, identity, request.validity_duration)
        until = issued.not_after.isoformat()
        log.info("%s for %s until %s, serial %x", identity, caller, until, issued.serial)
        return IstioCertificateResponse(cert_chain=[*issued.chain, issued.signer.bundle])


def _address(context: Context) -> str:
    """Of the caller, without its port."""
    return context.peer().rpartition(":")[0]


async def _message(messages: AsyncIterator[bytes]) -> IstioCertificateRequest:
    """The first one. Raises Refusal when none comes."""
    try:
        async with asyncio.timeout(_SAID_WITHIN):
            return IstioCertificateRequest.FromString(await anext(messages))
    except (StopAsyncIteration, TimeoutError) as error:
        raise Refusal(Reason.MALFORMED_REQUEST, f"no message came within {_SAID_WITHIN:.0f} s") from error
    except DecodeError as error:
        raise Refusal(Reason.MALFORMED_REQUEST, "the message is no IstioCertificateRequest") from error


def _text(metadata: Struct, field: str) -> str | None:
    return metadata.fields[field].string_value if field in metadata.fields else None
