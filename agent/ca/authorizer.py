"""For whom a caller may ask: the main security boundary of a node's tunnel."""

from agent.ca.errors import Reason, Refusal
from agent.ca.placement import Placement
from agent.ca.spiffe import SpiffeId
from agent.ca.tokens import Caller, Tokens

_SCHEME = "bearer "


class Authorizer:
    """A token stands for a node, and a node may act for the workloads that run on it and for no other.

    Of these only for pods that are in the mesh, by the same rule by which they are captured and others are
    told to send to them through a tunnel: more certificates a tunnel has no use for. istiod does not look at
    this; it keeps a node that was taken over from the identities of its other pods.
    """

    def __init__(self, tokens: Tokens, placement: Placement, trust_domain: str) -> None:
        self._tokens = tokens
        self._placement = placement
        self._trust_domain = trust_domain

    async def caller(self, authorization: str | None, address: str) -> Caller:
        """Who calls, by the value of its `authorization` header (RFC 6750). Raises Refusal.

        address: whence it calls; it proves nothing.
        """
        if authorization is None or not authorization.lower().startswith(_SCHEME):
            raise Refusal(Reason.NO_TOKEN, "there is no `authorization: Bearer <token>`")
        return await self._tokens.caller(authorization[len(_SCHEME) :].strip(), address)

    def identity(self, caller: Caller, asked: str | None) -> SpiffeId:
        """The identity for which a caller may have a certificate, when it asks for `asked`.

        Raises Refusal.
        """
        node = caller.node
        if not asked:
            raise Refusal(Reason.NO_IDENTITY, "the metadata has no ImpersonatedIdentity")
        try:
            identity = SpiffeId.parse(asked)
        except ValueError as error:
            raise Refusal(Reason.MALFORMED_IDENTITY, f"ImpersonatedIdentity: {error}") from error
        if identity.trust_domain != self._trust_domain:
            raise Refusal(
                Reason.OTHER_TRUST_DOMAIN, f"{identity} is not of trust domain {self._trust_domain}"
            )
        if caller.gateway and (identity.namespace, identity.service_account) != caller.gateway[:2]:
            raise Refusal(Reason.NOT_ON_NODE, f"{caller} may have a certificate for its own identity alone")
        if not self._placement.runs(node, identity.namespace, identity.service_account):
            raise Refusal(Reason.NOT_ON_NODE, f"no pod of {identity} that is in the mesh runs on {node}")
        return identity
