"""Kinds that this version does not act on: what is there of them has a status that says so."""

from agent.model.engine.kind import SECURITY, TELEMETRY, Descriptor, Kind

KINDS: tuple[Kind, ...] = (
    Descriptor("RequestAuthentication", *SECURITY, "requestauthentications"),
    Descriptor("Telemetry", *TELEMETRY, "telemetries"),
)
