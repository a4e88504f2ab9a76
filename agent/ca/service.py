"""`istio.v1.auth.IstioCertificateService`: how tunnels, ours and ztunnel, ask for certificates."""

import logging
from typing import TypeAlias

import grpc
from google.protobuf.struct_pb2 import Struct
from prometheus_client import CollectorRegistry, Counter

from agent.ca.authority import Authority
from agent.ca.authorizer import Authorizer
from agent.ca.errors import Reason, Refusal
from protocols.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse

log = logging.getLogger("warren.ca")

NAME = "istio.v1.auth.IstioCertificateService"
_UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_DENIED = grpc.StatusCode.PERMISSION_DENIED
# The one place where a reason becomes a status (istiod's, where it has the reason).
STATUS = {
    Reason.NO_TOKEN: _UNAUTHENTICATED,
    Reason.UNKNOWN_TOKEN: _UNAUTHENTICATED,
    Reason.TOKENS_UNUSABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.NO_IDENTITY: _INVALID,
    Reason.MALFORMED_IDENTITY: _INVALID,
    Reason.OTHER_TRUST_DOMAIN: _DENIED,
    Reason.NOT_ON_NODE: _DENIED,
    Reason.MALFORMED_REQUEST: _INVALID,
    Reason.BAD_SIGNATURE: _INVALID,
    Reason.WEAK_KEY: _INVALID,
    Reason.OTHER_NAME: _INVALID,
    Reason.BAD_VALIDITY: _INVALID,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}

Context: TypeAlias = "grpc.aio.ServicerContext[IstioCertificateRequest, IstioCertificateResponse]"


class CertificateService:
    """Answers CreateCertificate. Counts warren_ca_requests_total by result, "ok" or a Reason."""

    def __init__(self, authority: Authority, authorizer: Authorizer, registry: CollectorRegistry) -> None:
        self._authority = authority
        self._authorizer = authorizer
        self._requests = Counter(
            "warren_ca_requests", "Certificate requests by result.", ["result"], registry=registry
        )
        for result in ("ok", *(reason.value for reason in Reason)):
            self._requests.labels(result)

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
            response = self._certify(request, context)
        except Refusal as refusal:
            result, text = refusal.reason, str(refusal)
            log.warning("refused %s (%s): %s", caller, result.value, text)
        except Exception as error:  # a caller gets an answer, whatever it sent
            result, text = Reason.INTERNAL, "the authority failed; its log says how"
            log.exception("failed for %s: %s", caller, error)
        else:
            self._requests.labels("ok").inc()
            return response
        self._requests.labels(result.value).inc()
        await context.abort(STATUS[result], text)
        raise AssertionError("abort() raises")

    def _certify(self, request: IstioCertificateRequest, context: Context) -> IstioCertificateResponse:
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        node = self._authorizer.node(headers.get("authorization"))
        identity = self._authorizer.identity(node, _text(request.metadata, "ImpersonatedIdentity"))
        issued = self._authority.issue(request.csr, identity, request.validity_duration)
        log.info("%s for %s until %s, serial %x", identity, node, issued.not_after.isoformat(), issued.serial)
        return IstioCertificateResponse(cert_chain=[issued.pem, self._authority.bundle])


def _text(metadata: Struct, field: str) -> str | None:
    return metadata.fields[field].string_value if field in metadata.fields else None
