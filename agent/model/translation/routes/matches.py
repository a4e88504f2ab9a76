"""Istio's matches -> `warren.routes.HttpMatch`, `TlsMatch` and `ConnectionMatch`."""

from collections.abc import Iterable, Mapping

from agent.model.schema.istio.http_rule import HttpMatch
from agent.model.schema.istio.string_match import StringMatch
from agent.model.schema.istio.virtual_service import MESH, L4Match, TlsMatch
from agent.model.schema.objects import IPNetwork, to_range
from protocols import routes_pb2 as pb

_RESERVED = frozenset({"uri", "scheme", "method", "authority"})  # ignored among headers, as in Istio


def in_mesh(match: HttpMatch | TlsMatch | L4Match, port: int) -> bool:
    """Whether it may fit what clients within the mesh send to a port."""
    return (not match.gateways or MESH in match.gateways) and match.port in (0, port)


def http_match(match: HttpMatch) -> pb.HttpMatch:
    """port is left out: rules are told for each port."""
    return pb.HttpMatch(
        name=match.name,
        path=_path(match),
        method=_unless_any(match.method),
        scheme=_unless_any(match.scheme),
        authority=_unless_any(match.authority),
        headers=_named(match.headers),
        without_headers=_named(match.without_headers),
        query=[pb.NamedMatch(name=name, value=string_match(one)) for name, one in match.query_params.items()],
        source_namespace=match.source_namespace,
        source_labels=match.source_labels,
    )


def _path(match: HttpMatch) -> pb.PathMatch | None:
    uri = match.uri
    if uri is None or uri.any_value or uri.prefix == "":
        return None
    folded = match.ignore_uri_case
    if uri.exact is not None:
        return pb.PathMatch(exact=uri.exact, ignore_case=folded)
    if uri.prefix is not None:
        return pb.PathMatch(prefix=uri.prefix, ignore_case=folded)
    return pb.PathMatch(regex=uri.regex)


def string_match(match: StringMatch) -> pb.StringMatch:
    if match.any_value:
        return pb.StringMatch(present=True)
    if match.exact is not None:
        return pb.StringMatch(exact=match.exact)
    if match.prefix is not None:
        return pb.StringMatch(prefix=match.prefix)
    return pb.StringMatch(regex=match.regex)


def _unless_any(match: StringMatch | None) -> pb.StringMatch | None:
    return string_match(match) if match and not match.any_value else None


def _named(matches: Mapping[str, StringMatch]) -> list[pb.NamedMatch]:
    return [
        pb.NamedMatch(name=name.lower(), value=string_match(match))
        for name, match in matches.items()
        if name not in _RESERVED
    ]


def tls_match(match: TlsMatch) -> pb.TlsMatch:
    return pb.TlsMatch(
        sni_hosts=[host.lower() for host in match.sni_hosts], connection=connection_match(match)
    )


def connection_match(match: TlsMatch | L4Match) -> pb.ConnectionMatch:
    return pb.ConnectionMatch(
        destination_subnets=_subnets(match.destination_subnets),
        source_namespace=match.source_namespace,
        source_labels=match.source_labels,
    )


def _subnets(texts: Iterable[str]) -> list[pb.Subnet]:
    return [_subnet(text) for text in texts]


def _subnet(text: str) -> pb.Subnet:
    found = to_range(text)
    if isinstance(found, IPNetwork):
        return pb.Subnet(address=found.network_address.packed, length=found.prefixlen)
    return pb.Subnet(address=found.packed, length=found.max_prefixlen)
