"""Kinds that this version does not act on: what is there of them has a status that says so."""

from agent.model.engine.kind import GATEWAY, NETWORKING, SECURITY, TELEMETRY, Descriptor, Kind

KINDS: tuple[Kind, ...] = (
    Descriptor("RequestAuthentication", *SECURITY, "requestauthentications"),
    Descriptor("VirtualService", *NETWORKING, "virtualservices"),
    Descriptor("DestinationRule", *NETWORKING, "destinationrules"),
    Descriptor("Telemetry", *TELEMETRY, "telemetries"),
    Descriptor("HTTPRoute", GATEWAY, ("v1", "v1beta1"), "httproutes"),
    Descriptor("GRPCRoute", GATEWAY, ("v1",), "grpcroutes"),
    Descriptor("TCPRoute", GATEWAY, ("v1", "v1alpha2"), "tcproutes"),
)
