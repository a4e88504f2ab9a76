"""The Gateway API's matches -> `warren.routes.HttpMatch`, and their precedence."""

from collections.abc import Iterable
from typing import TypeAlias

from agent.model.schema.gateway.base import ValueMatch
from agent.model.schema.gateway.grpc_route import GrpcMethodMatch, GRPCRoute, GrpcRouteMatch
from agent.model.schema.gateway.http_route import HTTPRoute, HttpRouteMatch
from protocols import routes_pb2 as pb

HttpLike: TypeAlias = HTTPRoute | GRPCRoute
Match: TypeAlias = HttpRouteMatch | GrpcRouteMatch

_RANKS = {"exact": 0, "segment_prefix": 1, "prefix": 1, "regex": 2}


def http_match(match: Match) -> pb.HttpMatch:
    """A match of either kind of route."""
    if isinstance(match, GrpcRouteMatch):
        return pb.HttpMatch(
            path=_grpc_path(match.method) if match.method else None, headers=_values(match.headers, True)
        )
    return pb.HttpMatch(
        path=_path(match),
        method=pb.StringMatch(exact=match.method) if match.method else None,
        headers=_values(match.headers, True),
        query=_values(match.query_params, False),
    )


def _path(match: HttpRouteMatch) -> pb.PathMatch:
    value = match.path.value
    if match.path.type == "PathPrefix":
        return pb.PathMatch(segment_prefix=value)
    return pb.PathMatch(exact=value) if match.path.type == "Exact" else pb.PathMatch(regex=value)


def _grpc_path(wanted: GrpcMethodMatch) -> pb.PathMatch:
    """gRPC's path is `/service/method`."""
    if wanted.type == "Exact" and wanted.service is not None:
        if wanted.method is None:
            return pb.PathMatch(prefix=f"/{wanted.service}/")
        return pb.PathMatch(exact=f"/{wanted.service}/{wanted.method}")
    service = "[^/]+" if wanted.service is None else f"(?:{wanted.service})"
    method = "[^/]+" if wanted.method is None else f"(?:{wanted.method})"
    return pb.PathMatch(regex=f"/{service}/{method}")


def _values(matches: Iterable[ValueMatch], folded: bool) -> list[pb.NamedMatch]:
    """folded: names do not differ by case; of several that are the same the first counts."""
    found: dict[str, pb.NamedMatch] = {}
    for one in matches:
        name = one.name.lower() if folded else one.name
        exact = one.type == "Exact"
        value = pb.StringMatch(exact=one.value) if exact else pb.StringMatch(regex=one.value)
        found.setdefault(name, pb.NamedMatch(name=name, value=value))
    return list(found.values())


def precedence(match: pb.HttpMatch) -> tuple[int, int, bool, int, int]:
    """The smaller one is looked at first, whatever route or rule it is of."""
    kind = match.path.WhichOneof("kind")
    length = len(getattr(match.path, kind)) if kind else 0
    has_method = match.HasField("method")
    return _RANKS.get(kind or "", 3), -length, not has_method, -len(match.headers), -len(match.query)
