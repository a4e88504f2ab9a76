"""Cases of the Gateway API's conformance suite for routes, under the suite's names, as rules and requests.

Each has a hostname at a gateway, and a Service in the mesh, of its own: all of them are in force at once.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

Spec = dict[str, Any]
GROUP = "gateway.networking.k8s.io"


class Ask(NamedTuple):
    """A request, and what becomes of it.

    by: the version of the backend that answers, or the status; seen: headers of the request as the backend
    has it, None: it has none; answered: the same of the answer; line: the request's first, at the backend.
    """

    path: str
    by: str | int
    headers: Mapping[str, str] = {}
    method: str = "GET"
    seen: Mapping[str, str | None] = {}
    answered: Mapping[str, str | None] = {}
    line: str = ""


class Case(NamedTuple):
    """rules: of one route, or of several; mesh: its name where it is a case of the mesh as well."""

    routes: list[list[Spec]]
    asks: list[Ask]
    mesh: str = ""


def to(version: str = "v1", weight: int | None = None, **more: Any) -> Spec:
    """A backend."""
    share = {} if weight is None else {"weight": weight}
    return {"name": f"infra-backend-{version}", "port": 8080, **share, **more}


def rule(*matches: Spec, **more: Any) -> Spec:
    backends = more.pop("backends", [to()])
    found: Spec = {"backendRefs": backends, **more}
    return found | ({"matches": [*matches]} if matches else {})


def path(value: str, type_: str = "PathPrefix") -> Spec:
    return {"path": {"type": type_, "value": value}}


def header(name: str, value: str) -> Spec:
    return {"headers": [{"name": name, "value": value}]}


def query(**values: str) -> Spec:
    return {"queryParams": [{"name": name, "value": value} for name, value in values.items()]}


def redirect(**spec: Any) -> list[Spec]:
    return [{"type": "RequestRedirect", "requestRedirect": spec}]


def rewrite(**spec: Any) -> list[Spec]:
    return [{"type": "URLRewrite", "urlRewrite": spec}]


def request_headers(**changes: Any) -> list[Spec]:
    return [{"type": "RequestHeaderModifier", "requestHeaderModifier": changes}]


def response_headers(**changes: Any) -> list[Spec]:
    return [{"type": "ResponseHeaderModifier", "responseHeaderModifier": changes}]


def pair(name: str, value: str) -> Spec:
    return {"name": name, "value": value}


def prefix(value: str) -> Spec:
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": value}


def whole(value: str) -> Spec:
    return {"type": "ReplaceFullPath", "replaceFullPath": value}


def leads(ask: str, location: str, status: int = 302) -> Ask:
    return Ask(ask, status, answered={"location": location})


def status_of_redirects(status: int, mesh: str) -> Case:
    filters = redirect(hostname="example.org", statusCode=status)
    return Case([[{"filters": filters}]], [leads("/x", "http://example.org/x", status)], mesh)


V2 = {"backends": [to("v2")]}
_MATCHING = [
    rule(path("/"), header("version", "one")),
    rule(path("/v2"), header("version", "two"), **V2),
]
_MATCHED = [
    *(Ask(one, "v1") for one in ("/", "/example", "/v2example", "/foo/v2/example")),
    *(Ask(one, "v2") for one in ("/v2", "/v2/example", "/v2/")),
    Ask("/", "v1", {"Version": "one"}),
    Ask("/", "v2", {"Version": "two"}),
]
CASES: dict[str, Case] = {
    "HTTPRouteSimpleSameNamespace": Case([[rule()]], [Ask("/", "v1")], "MeshHTTPRouteSimpleSameNamespace"),
    "HTTPRouteExactPathMatching": Case(
        [[rule(path("/one", "Exact")), rule(path("/two", "Exact"), **V2)]],
        [
            Ask("/one", "v1"),
            Ask("/two", "v2"),
            *(Ask(one, 404) for one in ("/", "/one/example", "/two/", "/Two", "/onex")),
        ],
    ),
    "HTTPRouteMatching": Case([_MATCHING], _MATCHED, "MeshHTTPRouteMatching"),
    "HTTPRouteMatchingAcrossRoutes": Case([_MATCHING[:1], _MATCHING[1:]], _MATCHED),
    "HTTPRouteHeaderMatching": Case(
        [
            [
                rule(header("version", "one")),
                rule(header("version", "two"), **V2),
                rule({"headers": [pair("version", "two"), pair("color", "orange")]}),
                rule(header("color", "blue"), header("color", "green")),
                rule(header("color", "red"), header("color", "yellow"), **V2),
            ]
        ],
        [
            Ask("/", "v1", {"Version": "one"}),
            Ask("/", "v2", {"Version": "two"}),
            Ask("/", "v1", {"Version": "two", "Color": "orange"}),
            Ask("/", "v1", {"Color": "blue"}),
            Ask("/", "v1", {"Color": "green"}),
            Ask("/", "v2", {"Color": "red"}),
            Ask("/", "v2", {"Color": "yellow"}),
            Ask("/", 404, {"Color": "purple"}),
            Ask("/", 404),
        ],
    ),
    "HTTPRoutePathMatchOrder": Case(
        [
            [
                rule(path("/match"), backends=[to("v3")]),
                rule(path("/match/prefix/one"), backends=[to("v3")]),
                rule(path("/match/prefix"), **V2),
                rule(path("/match/exact/one", "Exact")),
                rule(path("/match/exact")),
                rule(path("/match/exact", "Exact"), **V2),
            ]
        ],
        [
            Ask("/match/exact/one", "v1"),
            Ask("/match/exact", "v2"),
            Ask("/match/exact/other", "v1"),
            Ask("/match/prefix/one/x", "v3"),
            Ask("/match/prefix/two", "v2"),
            Ask("/match/else", "v3"),
        ],
    ),
    "HTTPRouteMethodMatching": Case(
        [
            [
                rule({"method": "POST"}),
                rule({"method": "GET"}, **V2),
                rule({**path("/put"), "method": "PUT"}, backends=[to("v3")]),
                rule({**path("/get"), "method": "GET"}),
            ]
        ],
        [
            Ask("/", "v1", method="POST"),
            Ask("/", "v2"),
            Ask("/put", "v3", method="PUT"),
            Ask("/", 404, method="PUT"),
            Ask("/get", "v1"),
        ],
    ),
    "HTTPRouteQueryParamMatching": Case(
        [
            [
                rule(query(animal="whale")),
                rule(query(animal="dolphin"), **V2),
                rule(query(animal="dolphin", color="blue"), backends=[to("v3")]),
            ]
        ],
        [
            Ask("/?animal=whale", "v1"),
            Ask("/?animal=dolphin", "v2"),
            Ask("/?color=blue&animal=dolphin", "v3"),
            Ask("/?animal=dolphin&color=red", "v2"),
            Ask("/?animal=shark", 404),
            Ask("/?animal=whale&animal=dolphin", "v1"),
            Ask("/", 404),
        ],
        "MeshHTTPRouteQueryParamMatching",
    ),
    "HTTPRouteNamedRule": Case(
        [[rule(path("/named"), name="named"), rule(path("/unnamed"), **V2)]],
        [Ask("/named", "v1"), Ask("/unnamed", "v2")],
        "MeshHTTPRouteNamedRule",
    ),
    "HTTPRouteNoBackendRefs": Case([[{"matches": [path("/")]}]], [Ask("/", 500)]),
    "HTTPRouteRequestHeaderModifier": Case(
        [
            [
                rule(path("/set"), filters=request_headers(set=[pair("X-Set", "new")])),
                rule(path("/add"), filters=request_headers(add=[pair("X-Add", "more")])),
                rule(path("/remove"), filters=request_headers(remove=["X-Remove"])),
            ]
        ],
        [
            Ask("/set", "v1", seen={"x-set": "new"}),
            Ask("/set", "v1", {"X-Set": "old"}, seen={"x-set": "new"}),
            Ask("/add", "v1", seen={"x-add": "more"}),
            Ask("/remove", "v1", {"X-Remove": "a", "X-Stays": "b"}, seen={"x-remove": None, "x-stays": "b"}),
        ],
        "MeshHTTPRouteRequestHeaderModifier",
    ),
    "HTTPRouteBackendRequestHeaderModifier": Case(
        [[rule(backends=[to(filters=request_headers(set=[pair("X-Set", "new")], remove=["X-Remove"]))])]],
        [Ask("/", "v1", {"X-Set": "old", "X-Remove": "a"}, seen={"x-set": "new", "x-remove": None})],
        "MeshHTTPRouteBackendRequestHeaderModifier",
    ),
    "HTTPRouteRequestHeaderModifierBackendWeights": Case(
        [
            [
                rule(
                    backends=[
                        to("v1", 0, filters=request_headers(set=[pair("X-Backend", "one")])),
                        to("v2", 1, filters=request_headers(set=[pair("X-Backend", "two")])),
                    ]
                )
            ]
        ],
        [Ask("/", "v2", seen={"x-backend": "two"})],
    ),
    "HTTPRouteResponseHeaderModifier": Case(
        [
            [
                rule(path("/set"), filters=response_headers(set=[pair("Content-Type", "text/x")])),
                rule(path("/add"), filters=response_headers(add=[pair("X-Add", "more")])),
                rule(path("/remove"), filters=response_headers(remove=["Content-Type"])),
            ]
        ],
        [
            Ask("/set", 200, answered={"content-type": "text/x"}),
            Ask("/add", "v1", answered={"x-add": "more"}),
            Ask("/remove", 200, answered={"content-type": None}),
        ],
    ),
    "HTTPRouteRedirectHostAndStatus": Case(
        [
            [
                {"matches": [path("/hostname")], "filters": redirect(hostname="example.org")},
                {"matches": [path("/both")], "filters": redirect(hostname="example.org", statusCode=301)},
            ]
        ],
        [leads("/hostname", "http://example.org/hostname"), leads("/both", "http://example.org/both", 301)],
        "MeshHTTPRouteRedirectHostAndStatus",
    ),
    "HTTPRouteRedirectPath": Case(
        [
            [
                {"matches": [path("/original")], "filters": redirect(path=prefix("/replacement"))},
                {"matches": [path("/full")], "filters": redirect(path=whole("/new"), hostname="a.org")},
                {"matches": [path("/root")], "filters": redirect(path=prefix("/"), hostname="a.org")},
            ]
        ],
        [
            leads("/original/lemon", "http://{host}/replacement/lemon"),
            leads("/full/path", "http://a.org/new"),
            leads("/root/x", "http://a.org/x"),
        ],
        "MeshHTTPRouteRedirectPath",
    ),
    "HTTPRouteRedirectPort": Case(
        [[{"filters": redirect(hostname="a.org", port=8083)}]],
        [leads("/x", "http://a.org:8083/x")],
        "MeshHTTPRouteRedirectPort",
    ),
    "HTTPRouteRedirectScheme": Case(
        [
            [
                {"matches": [path("/scheme")], "filters": redirect(scheme="https", hostname="a.org")},
                {
                    "matches": [path("/port")],
                    "filters": redirect(scheme="https", hostname="a.org", port=8443, statusCode=301),
                },
            ]
        ],
        [leads("/scheme", "https://a.org/scheme"), leads("/port", "https://a.org:8443/port", 301)],
        "MeshHTTPRouteSchemeRedirect",
    ),
    "HTTPRoute303Redirect": status_of_redirects(303, "MeshHTTPRoute303Redirect"),
    "HTTPRoute307Redirect": status_of_redirects(307, "MeshHTTPRoute307Redirect"),
    "HTTPRoute308Redirect": status_of_redirects(308, "MeshHTTPRoute308Redirect"),
    "HTTPRouteRewriteHost": Case(
        [[rule(path("/"), filters=rewrite(hostname="one.example.org"))]],
        [Ask("/x", "v1", seen={"host": "one.example.org"})],
    ),
    "HTTPRouteRewritePath": Case(
        [
            [
                rule(path("/prefix/one"), filters=rewrite(path=prefix("/one"))),
                rule(path("/strip"), filters=rewrite(path=prefix("/"))),
                rule(path("/full"), filters=rewrite(path=whole("/one"))),
            ]
        ],
        [
            Ask("/prefix/one/two", "v1", line="GET /one/two HTTP/1.1"),
            Ask("/strip/three", "v1", line="GET /three HTTP/1.1"),
            Ask("/strip", "v1", line="GET / HTTP/1.1"),
            Ask("/full/x", "v1", line="GET /one HTTP/1.1"),
        ],
        "MeshHTTPRouteRewritePath",
    ),
    "HTTPRouteInvalidNonExistentBackendRef": Case([[rule(backends=[to("none")])]], [Ask("/", 500)]),
    "HTTPRouteInvalidBackendRefUnknownKind": Case(
        [[rule(backends=[to(group="unknown.example", kind="Nonexistent")])]], [Ask("/", 500)]
    ),
    "HTTPRouteInvalidCrossNamespaceBackendRef": Case(
        [[rule(backends=[{"name": "web-backend", "namespace": "backends", "port": 8080}])]], [Ask("/", 500)]
    ),
    "HTTPRouteReferenceGrant": Case(
        [[rule(backends=[{"name": "granted", "namespace": "backends", "port": 8080}])]], [Ask("/", "v3")]
    ),
    "HTTPRouteCORS": Case(
        [
            [
                rule(
                    filters=[
                        {
                            "type": "CORS",
                            "cors": {"allowOrigins": ["https://www.foo.com"], "allowMethods": ["GET"]},
                        }
                    ]
                )
            ]
        ],
        [
            Ask(
                "/",
                "v1",
                {"Origin": "https://www.foo.com"},
                answered={"access-control-allow-origin": "https://www.foo.com"},
            ),
            Ask("/", "v1", {"Origin": "https://x.com"}, answered={"access-control-allow-origin": None}),
        ],
    ),
}
LISTENERS = ("empty-hostname", "wildcard-example-com", "wildcard-foo-example-com", "abc-foo-example-com")
ISOLATION = {  # hosts by the listener that is theirs
    "bar.com": "empty-hostname",
    "bar.example.com": "wildcard-example-com",
    "bar.foo.example.com": "wildcard-foo-example-com",
    "abc.foo.example.com": "abc-foo-example-com",
}


def scripted(version: str = "v1") -> Spec:
    """A backend that answers as its requests ask (`tests.support.backend`)."""
    return {"name": f"infra-backend-{version}", "port": 8081}


def mirror(version: str, **share: Any) -> Spec:
    return {"type": "RequestMirror", "requestMirror": {"backendRef": scripted(version), **share}}


def at(value: str, **more: Any) -> Spec:
    """A rule for a path, to a backend that answers as it is asked to."""
    return rule(path(value), backends=[scripted()], **more)


SCRIPTED = {  # cases that tests ask for one by one, each with the rules of a route
    "HTTPRouteRequestMirror": [at("/", filters=[mirror("v2")])],
    "HTTPRouteRequestMultipleMirrors": [at("/", filters=[mirror("v2"), mirror("v3")])],
    "HTTPRouteRequestPercentageMirror": [
        at("/all", filters=[mirror("v2", percent=100)]),
        at("/half", filters=[mirror("v2", fraction={"numerator": 1, "denominator": 2})]),
        at("/none", filters=[mirror("v2", percent=0)]),
    ],
    "HTTPRouteRetry": [at("/", retry={"codes": [500, 503], "attempts": 2, "backoff": "10ms"})],
    "HTTPRouteRetryConnectionError": [at("/", retry={"attempts": 2, "backoff": "10ms"})],
    "HTTPRouteRetryWithTimeouts": [
        at(
            "/tries",
            retry={"codes": [504], "attempts": 2, "backoff": "10ms"},
            timeouts={"request": "10s", "backendRequest": "200ms"},
        ),
        at("/all", retry={"codes": [500], "attempts": 50, "backoff": "10ms"}, timeouts={"request": "500ms"}),
    ],
    "HTTPRouteTimeoutRequest": [
        at("/", timeouts={"request": "300ms"}),
        at("/never", timeouts={"request": "0s"}),
    ],
    "HTTPRouteTimeoutBackendRequest": [
        at("/", timeouts={"backendRequest": "300ms"}),
        at("/never", timeouts={"backendRequest": "0s"}),
    ],
    "HTTPRouteBackendProtocolH2C": [rule(backends=[{"name": "h2c", "port": 8080}])],
    "HTTPRouteBackendProtocolWebSocket": [rule(backends=[{"name": "websocket", "port": 8080}])],
    "HTTPRouteServiceTypes": [
        rule(path("/headless"), backends=[{"name": "headless", "port": 8080}]),
        rule(path("/manual"), backends=[{"name": "manual", "port": 8080}]),
    ],
}
ECHO = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho"


def grpc_to(version: str, weight: int = 1) -> Spec:
    return {"name": f"infra-backend-{version}", "port": 8082, "weight": weight}


def grpc_rule(*matches: Spec, to: str = "v1", **more: Any) -> Spec:
    found: Spec = {"backendRefs": [grpc_to(to)], **more}
    return found | ({"matches": [*matches]} if matches else {})


def grpc_method(name: str) -> Spec:
    return {"method": {"service": ECHO, "method": name}}


GRPC: dict[str, list[Spec]] = {
    "GRPCExactMethodMatching": [grpc_rule(grpc_method("Echo")), grpc_rule(grpc_method("EchoTwo"), to="v2")],
    "GRPCRouteHeaderMatching": [
        grpc_rule(header("version", "one")),
        grpc_rule(header("version", "two"), to="v2"),
        grpc_rule({"headers": [pair("version", "two"), pair("color", "orange")]}),
        grpc_rule(header("color", "blue"), header("color", "green"), to="v3"),
    ],
    "GRPCRouteNamedRule": [
        grpc_rule(grpc_method("Echo"), name="named"),
        grpc_rule(grpc_method("EchoTwo"), to="v2"),
    ],
    "GRPCRouteRequestHeaderModifier": [
        grpc_rule(
            filters=request_headers(
                set=[pair("x-set", "new")], add=[pair("x-add", "more")], remove=["x-remove"]
            )
        )
    ],
    "GRPCRouteWeight": [{"backendRefs": [grpc_to("v1", 70), grpc_to("v2", 30), grpc_to("v3", 0)]}],
}
WEIGHTS = [[rule(backends=[to("v1", 70), to("v2", 30), to("v3", 0)])]]


def host(case: str) -> str:
    """Of a case, at the gateway; as a Service its first part."""
    return f"{case.lower()}.example.com"


def routes(
    case: str, written: list[list[Spec]], parent: Spec, kind: str = "HTTPRoute", **more: Any
) -> list[Spec]:
    metadata = {"namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"}
    place = parent.get("kind", "Gateway").lower()
    return [
        {
            "apiVersion": f"{GROUP}/v1",
            "kind": kind,
            "metadata": {**metadata, "name": f"{place}-{case.lower()}-{number}"},
            "spec": {"parentRefs": [parent], "rules": rules, **more},
        }
        for number, rules in enumerate(written)
    ]
