"""A request, understood: verb, resource, namespace and name, as authorization and the audit log see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from tests.support.kubernetes.errors import Cause, Refused, bad_request, unsupported, wrong_options
from tests.support.kubernetes.lists import truth
from tests.support.kubernetes.objects import How
from tests.support.kubernetes.rbac import Access
from tests.support.kubernetes.selectors import single_name

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_BODIES = ("application/json", "application/yaml")
_LARGEST = 3 << 20  # bytes of a body
_POLICIES = ("", "Foreground", "Background", "Orphan")


@dataclass(frozen=True)
class Call:
    """`uri` is path and query as they were sent; `version` is the API's, of the group in `access`."""

    uri: str
    query: Mapping[str, str]
    accept: str
    media_type: str
    agent: str
    body: bytes
    access: Access
    version: str

    def object(self, accepted: tuple[str, ...] = _BODIES) -> Any:
        """The body, decoded. Raises Refused (400, 413, 415)."""
        if self.media_type not in accepted:
            raise unsupported(accepted)
        if len(self.body) > _LARGEST:
            message = f"Request entity too large: limit is {_LARGEST}"
            raise Refused(413, "RequestEntityTooLarge", message)
        text = self.body.decode(errors="replace")  # as Go's JSON decoder does
        try:
            if self.media_type == "application/yaml":
                return yaml.safe_load(text)
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, yaml.YAMLError) as error:
            why = f"couldn't get version/kind; json parse error: {error}"
            raise bad_request(f"the object provided is unrecognized: {why}") from error


def understand(
    method: str, path: str, *, uri: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
) -> Call:
    """What a request asks for, by the rules of Kubernetes' own `RequestInfo`."""
    access, version = _access(method, path, query)
    media_type = headers.get("Content-Type", "").partition(";")[0].strip() or "application/json"
    accept, agent = headers.get("Accept", ""), headers.get("User-Agent", "")
    return Call(uri, query, accept, media_type, agent, body, access, version)


def write_options(call: Call) -> How:
    """Raises Refused (422)."""
    dry = call.query.get("dryRun", "")
    if dry not in ("", "All"):
        words = f'Unsupported value: ["{dry}"]: supported values: "All"'
        kind = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}
        causes = [Cause("FieldValueNotSupported", "dryRun", words)]
        raise wrong_options(kind.get(call.access.verb, "DeleteOptions"), causes)
    return How(dry_run=bool(dry), strict=call.query.get("fieldValidation") == "Strict")


def delete_options(call: Call) -> dict[str, Any]:
    """Those of the body and of the query. Raises Refused (400, 422)."""
    options: dict[str, Any] = (call.object() if call.body else None) or {}
    if "gracePeriodSeconds" in call.query:
        options["gracePeriodSeconds"] = int(call.query["gracePeriodSeconds"])
    policy = options.get("propagationPolicy") or call.query.get("propagationPolicy", "")
    if policy not in _POLICIES:
        known = '"Foreground", "Background", "Orphan", "nil"'
        words = f'Unsupported value: "{policy}": supported values: {known}'
        causes = [Cause("FieldValueNotSupported", "propagationPolicy", words)]
        raise wrong_options("DeleteOptions", causes)
    return options


def _access(method: str, path: str, query: Mapping[str, str]) -> tuple[Access, str]:
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return Access(method.lower(), path=path), ""
    watch = truth(query.get("watch", ""))
    if rest[0] == "watch" and len(rest) > 1:
        watch, rest = True, rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in ("status", "finalize"):
            rest = rest[2:]
    resource, name, subresource = [*rest, "", ""][:3]
    verb = _VERBS.get(method, method.lower())
    if not name and method == "DELETE":
        verb = "deletecollection"
    elif not name and method == "GET":
        verb = "watch" if watch else "list"
        name = single_name(query.get("fieldSelector", ""))
    return Access(verb, group, resource, subresource, namespace, name), version
