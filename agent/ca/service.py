"""`istio.v1.auth.IstioCertificateService`: how tunnels, ours and ztunnel, ask for certificates."""

import logging
from typing import TypeAlias

import grpc
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
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}
# A node has up to 110 pods by default: its start, and another one after a crash, are let through at once.
_OF_A_NODE = (5.0, 300)  # per second, at once
# Each refused token may have cost a review; who has a good one is not counted.
_BAD_TOKENS = (1.0, 30)

Context: TypeAlias = "grpc.aio.ServicerContext[IstioCertificateRequest, IstioCertificateResponse]"


class CertificateService:
    """Answers CreateCertificate, and counts how.

    Signing is done where it is asked for: it takes 0.1 ms (RSA of 4096 bits: 2 ms), and the library keeps the
    interpreter's lock meanwhile, so that threads would gain nothing. The limits bound what a node can cost.
    """

    def __init__(self, authority: Authority, authorizer: Authorizer, figures: Figures) -> None:
        self._authority = authority
        self._authorizer = authorizer
        self._results = figures.results
        self._nodes = Buckets(*_OF_A_NODE)
        self._strangers = Buckets(*_BAD_TOKENS)  # by address

    def add_to(self, server: grpc.aio.Server) -> None:
        """Make `server` answer for this service."""
        method = grpc.unary_unary_rpc_method_handler(
            self._create_certificate,
            request_deserializer=IstioCertificateRequest.FromString,
            response_serializer=IstioCertificateResponse.SerializeToString,
        )
        handler = grpc.method_handlers_generic_handler(NAME, {"CreateCertificate": method})
        server.add_generic_rpc_handlers((handler,))

    async def _create_certificate(
        self, request: IstioCertificateRequest, context: Context
    ) -> IstioCertificateResponse:
        caller = context.peer()
        try:
            response = await self._certify(request, context)
        except Refusal as refusal:
            result, text = refusal.reason, str(refusal)
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

    async def _certify(self, request: IstioCertificateRequest, context: Context) -> IstioCertificateResponse:
        node = await self._node(context)
        if not self._nodes.take(node):
            raise Refusal(Reason.TOO_MANY, f"{node} asks too often; try again later")
        identity = self._authorizer.identity(node, _text(request.metadata, "ImpersonatedIdentity"))
        issued = self._authority.issue(request.csr, identity, request.validity_duration)
        log.info("%s for %s until %s, serial %x", identity, node, issued.not_after.isoformat(), issued.serial)
        return IstioCertificateResponse(cert_chain=[*issued.chain, issued.signer.bundle])

    async def _node(self, context: Context) -> str:
        """Who calls. Raises Refusal."""
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        address = context.peer().rpartition(":")[0]
        if not self._strangers.has(address):
            raise Refusal(Reason.TOO_MANY, "too many bad tokens from this address; try again later")
        try:
            return await self._authorizer.node(headers.get("authorization"))
        except Refusal as refusal:
            if STATUS[refusal.reason] is _UNAUTHENTICATED:
                self._strangers.take(address)
            raise


def _text(metadata: Struct, field: str) -> str | None:
    return metadata.fields[field].string_value if field in metadata.fields else None
