"""Kinds that this version does not act on: what is there of them has a status that says so, by field.

They say what Envoy does beside its policies and routes; what those forbid stays forbidden without them.
"""

from agent.model.engine.kind import NETWORKING, Descriptor, Kind

KINDS: tuple[Kind, ...] = (
    Descriptor("EnvoyFilter", NETWORKING[0], ("v1alpha3",), "envoyfilters"),
    Descriptor("ProxyConfig", NETWORKING[0], ("v1beta1",), "proxyconfigs"),
    Descriptor("WasmPlugin", "extensions.istio.io", ("v1alpha1",), "wasmplugins"),
)
