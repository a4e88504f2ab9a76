"""Kinds that this version does not act on: what is there of them has a status that says so."""

from agent.model.engine.kind import TELEMETRY, Descriptor, Kind

KINDS: tuple[Kind, ...] = (Descriptor("Telemetry", *TELEMETRY, "telemetries"),)
