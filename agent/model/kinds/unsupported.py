"""Kinds that this version does not act on: what is there of them has a status that says so."""

from agent.model.engine.kind import NETWORKING, Descriptor, Kind

KINDS: tuple[Kind, ...] = (Descriptor("EnvoyFilter", NETWORKING[0], ("v1alpha3",), "envoyfilters"),)
