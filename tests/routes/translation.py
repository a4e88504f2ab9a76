"""Istio's rules -> Envoy's routes, as istiod makes them for a sidecar (pilot/pkg/networking/core/route).

Written for the comparison and nothing else: obvious, whole rules in, whole routes out. Objects are plain
YAML, right ones. Nothing of the product is used here.
"""

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.support.envoy import named, typed

Spec = Mapping[str, Any]
Json = dict[str, Any]
ClusterOf = Callable[[Spec], str]
"""The cluster of a destination."""

_DEFAULT_RETRY = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
_CODES = {301: "MOVED_PERMANENTLY", 302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT"}
_CODES |= {308: "PERMANENT_REDIRECT"}
_GRPC = {"OK": 0, "CANCELLED": 1, "NOT_FOUND": 5, "PERMISSION_DENIED": 7, "UNAVAILABLE": 14}
_HTTP = "extensions.filters.http"


def routes(rules: Iterable[Spec], port: int, cluster: ClusterOf, gateway: bool = False) -> list[Json]:
    """gateway: the rules are made of the Gateway API's, whose semantics hold."""
    found = []
    for rule in rules:
        for match in rule.get("match") or [{}]:
            if match.get("port", port) == port:
                found.append(_route(rule, match, port, cluster, gateway))
    return found


def _route(rule: Spec, match: Spec, port: int, cluster: ClusterOf, gateway: bool) -> Json:
    names = [rule.get("name", ""), *([match["name"]] if "name" in match else [])]
    result: Json = {"name": ".".join(names), "match": _match(match, gateway), **_header_changes(rule)}
    if "redirect" in rule:
        result["redirect"] = _redirect(rule["redirect"], port)
    elif "directResponse" in rule:
        result["direct_response"] = _direct_response(rule["directResponse"])
    else:
        result["route"] = _action(rule, match, cluster, gateway, result)
    filters: Json = {}
    if "fault" in rule:
        filters["fault"] = typed(f"{_HTTP}.fault.v3.HTTPFault", _fault(rule["fault"]))
    if "corsPolicy" in rule:
        filters["cors"] = typed(f"{_HTTP}.cors.v3.CorsPolicy", _cors(rule["corsPolicy"]))
    return result | ({"typed_per_filter_config": filters} if filters else {})


def _match(match: Spec, gateway: bool) -> Json:
    result: Json = {"prefix": "/", "case_sensitive": not match.get("ignoreUriCase", False)}
    uri = match.get("uri", {})
    if uri:
        del result["prefix"]
    if "exact" in uri:
        result["path"] = uri["exact"]
    elif "prefix" in uri and gateway and uri["prefix"] != "/":
        result["path_separated_prefix"] = uri["prefix"].removesuffix("/")
    elif "prefix" in uri:
        result["prefix"] = uri["prefix"]
    elif "regex" in uri:
        result["safe_regex"] = {"regex": uri["regex"]}
    headers = [_header(name, value) for name, value in match.get("headers", {}).items()]
    for name, value in match.get("withoutHeaders", {}).items():
        absent = {} if _is_presence(value) else {"treat_missing_header_as_empty": True}
        headers.append({**_header(name, value), "invert_match": True, **absent})
    headers += [
        _header(f":{name}", match[name]) for name in ("method", "authority", "scheme") if name in match
    ]
    query = [_header(name, value) for name, value in match.get("queryParams", {}).items()]
    return result | {"headers": headers, "query_parameters": query}


def _header(name: str, value: Spec) -> Json:
    return {
        "name": name,
        **({"present_match": True} if _is_presence(value) else {"string_match": _string(value)}),
    }


def _is_presence(value: Spec) -> bool:
    return not value or value.get("regex") == "*"


def _string(value: Spec) -> Json:
    return {"safe_regex": {"regex": value["regex"]}} if "regex" in value else dict(value)


def _header_changes(rule: Spec) -> Json:
    result: Json = {}
    for side, changes in rule.get("headers", {}).items():
        added = [
            {"header": {"key": name, "value": value}, "append_action": action}
            for kind, action in (("set", "OVERWRITE_IF_EXISTS_OR_ADD"), ("add", "APPEND_IF_EXISTS_OR_ADD"))
            for name, value in sorted(changes.get(kind, {}).items())
            if not _is_internal(name)
        ]
        result[f"{side}_headers_to_add"] = added
        result[f"{side}_headers_to_remove"] = [
            one for one in changes.get("remove", []) if not _is_internal(one)
        ]
    return result


def _is_internal(name: str) -> bool:
    return name.startswith(":") or name.lower() == "host"


def _authority(rule: Spec) -> str:
    changes = rule.get("headers", {}).get("request", {})
    for kind in ("set", "add"):
        for name, value in changes.get(kind, {}).items():
            if name.lower() in ("host", ":authority"):
                return str(value)
    return ""


def _action(rule: Spec, match: Spec, cluster: ClusterOf, gateway: bool, result: Json) -> Json:
    """Of a rule that forwards; where it has one destination, that one's header changes go to `result`."""
    timeout = _duration(rule.get("timeout", "0s"))
    action: Json = {"timeout": timeout, "max_grpc_timeout": timeout}
    if gateway:
        action["cluster_not_found_response_code"] = "INTERNAL_SERVER_ERROR"
    rewrite = rule.get("rewrite", {})
    if "uriRegexRewrite" in rewrite:
        wanted = rewrite["uriRegexRewrite"]
        action["regex_rewrite"] = {"pattern": {"regex": wanted["match"]}, "substitution": wanted["rewrite"]}
    elif rewrite.get("uri") == "/" and gateway:
        prefix = re.escape(match["uri"]["prefix"].removesuffix("/"))
        action["regex_rewrite"] = {"pattern": {"regex": f"^{prefix}(/?)(.*)"}, "substitution": r"/\2"}
    elif "uri" in rewrite:
        action["prefix_rewrite"] = rewrite["uri"].partition("#")[0]
    authority = rewrite.get("authority") or _authority(rule)
    single = rule["route"][0] if len(rule["route"]) == 1 else {}
    if authority := authority or _authority(single):
        action["host_rewrite_literal"] = authority
    action["request_mirror_policies"] = list(_mirrors(rule, cluster))
    if retry := _retry(rule.get("retries")):
        action["retry_policy"] = retry
    if single:
        action["cluster"] = cluster(single["destination"])
        for field, changes in _header_changes(single).items():
            result[field] = [*result.get(field, []), *changes]
    else:
        shares = [_share(one, cluster) for one in rule["route"] if one.get("weight")]
        action["weighted_clusters"] = {"clusters": shares}
    return action


def _share(one: Spec, cluster: ClusterOf) -> Json:
    authority = _authority(one)
    host = {"host_rewrite_literal": authority} if authority else {}
    return {"name": cluster(one["destination"]), "weight": one["weight"], **_header_changes(one), **host}


def _mirrors(rule: Spec, cluster: ClusterOf) -> Iterable[Json]:
    mirrors = list(rule.get("mirrors", []))
    if "mirror" in rule:
        mirrors.append(
            {"destination": rule["mirror"], "percentage": rule.get("mirrorPercentage", {"value": 100})}
        )
    for one in mirrors:
        fraction = _fraction(one.get("percentage", {"value": 100}))
        if fraction["numerator"]:
            target = cluster(one["destination"])
            yield {"cluster": target, "runtime_fraction": {"default_value": fraction}, "trace_sampled": False}


def _fraction(percent: Spec) -> Json:
    return {"numerator": int(percent.get("value", 0) * 10000), "denominator": "MILLION"}


def _retry(wanted: Spec | None) -> Json | None:
    if wanted is None:
        wanted = {"attempts": 2}
    if not wanted.get("attempts"):
        return None
    words = wanted.get("retryOn", _DEFAULT_RETRY).split(",")
    codes = [int(word) for word in words if word.isdecimal()]
    conditions = [word for word in words if not word.isdecimal()]
    if codes and "retriable-status-codes" not in conditions:
        conditions.append("retriable-status-codes")
    kind = "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    result: Json = {
        "num_retries": wanted["attempts"],
        "retry_on": ",".join(conditions),
        "retriable_status_codes": codes,
        "host_selection_retry_max_attempts": 5,
        "retry_host_predicate": [named("envoy.retry_host_predicates.previous_hosts", kind, {})],
    }
    if "perTryTimeout" in wanted:
        result["per_try_timeout"] = _duration(wanted["perTryTimeout"])
    if "backoff" in wanted:
        result["retry_back_off"] = {"base_interval": _duration(wanted["backoff"])}
    return result


def _redirect(wanted: Spec, port: int) -> Json:
    path = {"path_redirect": wanted.get("uri", "")}
    if "prefixRewrite" in wanted:
        path = {"prefix_rewrite": wanted["prefixRewrite"]}
    result = {"host_redirect": wanted.get("authority", ""), **path}
    if "scheme" in wanted:
        result["scheme_redirect"] = wanted["scheme"]
    to = port if wanted.get("derivePort") == "FROM_REQUEST_PORT" else wanted.get("port", 0)
    if (to, wanted.get("scheme", "http")) not in ((80, "http"), (443, "https")):
        result["port_redirect"] = to
    return result | {"response_code": _CODES[wanted.get("redirectCode", 301)]}


def _direct_response(wanted: Spec) -> Json:
    body = wanted.get("body", {})
    content = base64.b64decode(body["bytes"]) if "bytes" in body else body.get("string", "").encode()
    result: Json = {"status": wanted["status"]}
    return result | ({"body": {"inline_bytes": base64.b64encode(content).decode()}} if content else {})


def _fault(wanted: Spec) -> Json:
    result: Json = {}
    if delay := wanted.get("delay"):
        share = _fraction(delay.get("percentage", {}))
        result["delay"] = {"fixed_delay": _duration(delay["fixedDelay"]), "percentage": share}
    if abort := wanted.get("abort"):
        status: Json = {"http_status": abort["httpStatus"]} if "httpStatus" in abort else {}
        status |= {"grpc_status": _GRPC[abort["grpcStatus"]]} if "grpcStatus" in abort else {}
        result["abort"] = status | {"percentage": _fraction(abort.get("percentage", {}))}
    return result


def _cors(wanted: Spec) -> Json:
    origins = wanted.get("allowOrigins") or [{"exact": one} for one in wanted.get("allowOrigin", [])]
    result: Json = {
        "allow_origin_string_match": [_string(one) for one in origins],
        "allow_methods": ",".join(wanted.get("allowMethods", [])),
        "allow_headers": ",".join(wanted.get("allowHeaders", [])),
        "expose_headers": ",".join(wanted.get("exposeHeaders", [])),
        "forward_not_matching_preflights": wanted.get("unmatchedPreflights") != "IGNORE",
        "filter_enabled": {"default_value": {"numerator": 100}},
    }
    if "maxAge" in wanted:
        result["max_age"] = str(int(_seconds(wanted["maxAge"])))
    if "allowCredentials" in wanted:
        result["allow_credentials"] = wanted["allowCredentials"]
    return result


def _seconds(duration: str) -> float:
    """Of one number and one unit."""
    number = duration.rstrip("mhs")
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[duration.removeprefix(number)]


def _duration(duration: str) -> str:
    """As protobuf's JSON writes it."""
    return f"{_seconds(duration):g}s"
