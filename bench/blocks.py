"""Pieces of Envoy's configuration."""

from typing import Any

from bench.certificates import Identity

# ztunnel's windows, so that no peer is held back by a smaller one.
WINDOWS = {"initial_stream_window_size": 4 << 20, "initial_connection_window_size": 16 << 20}
HTTP2 = {
    "typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": WINDOWS},
        }
    }
}
"""Of a cluster that speaks HTTP/2."""
# Envoy admits 1,024 connections and requests to a cluster unless told otherwise.
UNLIMITED = {
    "thresholds": [{f"max_{what}": 1_000_000 for what in ("connections", "requests", "pending_requests")}]
}


def typed(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.{kind}", **value}


def named(name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": typed(kind, value)}


def address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def listener(name: str, host: str, port: int, chain: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "address": address(host, port), "filter_chains": [chain]}


def cluster(name: str, host: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address(host, port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": UNLIMITED,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def tls(side: str, me: Identity, peer: str) -> dict[str, Any]:
    """Mutual TLS 1.3 with a check of the peer's SPIFFE ID; `side` is Upstream or Downstream."""
    common = {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [
            {"certificate_chain": {"filename": str(me.chain)}, "private_key": {"filename": str(me.key)}}
        ],
        "validation_context": {
            "trusted_ca": {"filename": str(me.roots)},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
        },
    }
    context: dict[str, Any] = {"common_tls_context": common}
    if side == "Downstream":
        context["require_client_certificate"] = True
    return named("tls", f"extensions.transport_sockets.tls.v3.{side}TlsContext", context)
