"""The Gateway API's rules -> Istio's, as istiod makes them (pilot/pkg/config/kube/gateway/conversion.go).

For the comparison, as `translation`: rules are plain YAML, right ones.
"""

from collections.abc import Iterable, Mapping
from typing import Any

Spec = Mapping[str, Any]
Json = dict[str, Any]
_RANKS = {"exact": 3, "prefix": 2, "regex": 1}
_RETRY_ON = ["connect-failure", "refused-stream", "unavailable", "cancelled"]


def http_rules(rules: Iterable[Spec]) -> list[Json]:
    """A rule for each match, in their precedence."""
    found = []
    for rule in rules:
        made = _rule(rule)
        found += [{**made, "match": [_match(match)]} for match in rule.get("matches") or [{}]]
    return sorted(found, key=lambda one: _precedence(one["match"][0]), reverse=True)


def _precedence(match: Spec) -> tuple[int, int, bool, int, int]:
    [(kind, path)] = match["uri"].items() if "uri" in match else [("", "")]
    numbers = len(match.get("headers", {})), len(match.get("queryParams", {}))
    return _RANKS.get(kind, -1), len(path), "method" in match, *numbers


def _match(match: Spec) -> Json:
    path = {"type": "PathPrefix", "value": "/", **match.get("path", {})}
    kind = {"PathPrefix": "prefix", "Exact": "exact", "RegularExpression": "regex"}[path["type"]]
    result: Json = {"uri": {kind: path["value"]}}
    if "method" in match:
        result["method"] = {"exact": match["method"]}
    return result | {
        "headers": _values(match.get("headers", []), folded=True),
        "queryParams": _values(match.get("queryParams", [])),
    }


def _values(values: Iterable[Spec], folded: bool = False) -> Json:
    result: Json = {}
    for one in values:
        kind = "regex" if one.get("type") == "RegularExpression" else "exact"
        result.setdefault(one["name"].lower() if folded else one["name"], {kind: one["value"]})
    return result


def _rule(rule: Spec) -> Json:
    result: Json = {"name": rule.get("name", "")}
    filters = {one["type"]: one for one in rule.get("filters", [])}
    result["headers"] = _headers(filters)
    if "URLRewrite" in filters:
        result["rewrite"] = _rewrite(filters["URLRewrite"]["urlRewrite"])
    if "CORS" in filters:
        result["corsPolicy"] = _cors(filters["CORS"]["cors"])
    mirrors = [one["requestMirror"] for one in rule.get("filters", []) if one["type"] == "RequestMirror"]
    result["mirrors"] = [_mirror(one) for one in mirrors]
    _limit(result, rule)
    if "RequestRedirect" in filters:
        return result | {"redirect": _redirect(filters["RequestRedirect"]["requestRedirect"])}
    refs = rule.get("backendRefs", [])
    if not any(one.get("weight", 1) for one in refs):
        return result | {"directResponse": {"status": 500}}
    return result | {"route": [_share(one) for one in refs]}


def _share(ref: Spec) -> Json:
    filters = {one["type"]: one for one in ref.get("filters", [])}
    weight = ref.get("weight", 1)
    return {"destination": {"host": ref["name"]}, "weight": weight, "headers": _headers(filters)}


def _headers(filters: Mapping[str, Spec]) -> Json:
    result = {}
    for side in ("request", "response"):
        if changes := filters.get(f"{side.title()}HeaderModifier"):
            wanted = changes[f"{side}HeaderModifier"]
            given: Json = {kind: _literal(wanted[kind]) for kind in ("set", "add") if kind in wanted}
            result[side] = given | {"remove": wanted.get("remove", [])}
    return result


def _literal(values: Iterable[Spec]) -> dict[str, str]:
    return {one["name"].lower(): one["value"] for one in reversed(list(values))}


def _rewrite(wanted: Spec) -> Json:
    result: Json = {"authority": wanted["hostname"]} if "hostname" in wanted else {}
    path = wanted.get("path", {})
    if "replaceFullPath" in path:
        result["uriRegexRewrite"] = {"match": "/.*", "rewrite": path["replaceFullPath"]}
    elif "replacePrefixMatch" in path:
        result["uri"] = path["replacePrefixMatch"].removesuffix("/") or "/"
    return result


def _redirect(wanted: Spec) -> Json:
    result: Json = {"redirectCode": wanted.get("statusCode", 302)}
    result |= {"authority": wanted["hostname"]} if "hostname" in wanted else {}
    result |= {"scheme": wanted["scheme"]} if "scheme" in wanted else {}
    if "port" in wanted:
        result["port"] = wanted["port"]
    elif "scheme" not in wanted:
        result["derivePort"] = "FROM_REQUEST_PORT"
    path = wanted.get("path", {})
    result |= {"uri": path["replaceFullPath"]} if "replaceFullPath" in path else {}
    return result | ({"prefixRewrite": path["replacePrefixMatch"]} if "replacePrefixMatch" in path else {})


def _mirror(wanted: Spec) -> Json:
    percent = wanted.get("percent", 100)
    if fraction := wanted.get("fraction"):
        percent = 100 * fraction["numerator"] / fraction.get("denominator", 100)
    return {"destination": {"host": wanted["backendRef"]["name"]}, "percentage": {"value": percent}}


def _limit(result: Json, rule: Spec) -> None:
    """Retries and time-outs."""
    retry, timeouts = rule.get("retry"), rule.get("timeouts", {})
    if retry is not None:
        words = [*_RETRY_ON, *map(str, retry.get("codes", []))]
        result["retries"] = {"attempts": retry.get("attempts", 2), "retryOn": ",".join(words)}
        result["retries"] |= {"backoff": retry["backoff"]} if "backoff" in retry else {}
    if timeouts.get("request", "0s") != "0s":
        result["timeout"] = timeouts["request"]
    if timeouts.get("backendRequest", "0s") != "0s":
        single = timeouts["backendRequest"]
        if retry is not None:
            result["retries"]["perTryTimeout"] = single
        else:
            result["timeout"] = single


def _cors(wanted: Spec) -> Json:
    result: Json = {
        field: wanted[field]
        for field in ("allowCredentials", "allowMethods", "allowHeaders")
        if field in wanted
    }
    result |= {"exposeHeaders": wanted["exposeHeaders"]} if "exposeHeaders" in wanted else {}
    origins = [_origin(one) for one in wanted.get("allowOrigins", [])]
    return result | {
        "allowOrigins": origins,
        "maxAge": f"{wanted.get('maxAge', 5)}s",
        "unmatchedPreflights": "IGNORE",
    }


def _origin(text: str) -> Json:
    if text == "*":
        return {"regex": r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$"}
    if "*" not in text:
        return {"exact": text}
    return {"regex": text.replace(".", r"\.").replace("*", ".*")}
