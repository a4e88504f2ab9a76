"""A request, understood: verb, resource, namespace and name, as authorization and the audit log see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from tests.support.kubernetes.errors import Refused, bad_request, unsupported
from tests.support.kubernetes.lists import truth
from tests.support.kubernetes.rbac import Access
from tests.support.kubernetes.selectors import single_name

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_BODIES = ("application/json", "application/yaml")
_LARGEST = 3 << 20  # bytes of a body


@dataclass(frozen=True)
class Call:
    """`uri` is path and query as they were sent; `version` is the API's, of the group in `access`."""

    method: str
    path: str
    uri: str
    query: Mapping[str, str]
    media_type: str
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
        try:
            if self.media_type == "application/yaml":
                return yaml.safe_load(self.body)
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise bad_request(
                f"the object provided is unrecognized: couldn't get version/kind; {error}"
            ) from error


def understand(
    method: str, path: str, uri: str, query: Mapping[str, str], media_type: str, body: bytes
) -> Call:
    """What a request asks for, by the rules of Kubernetes' own `RequestInfo`."""
    access, version = _access(method, path, query)
    return Call(method, path, uri, query, media_type or "application/json", body, access, version)


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
    resource, name, subresource = (rest + ["", ""])[:3]
    if not name and method in ("GET", "DELETE"):
        verb = "deletecollection" if method == "DELETE" else "watch" if watch else "list"
        name = single_name(query.get("fieldSelector", "")) if method == "GET" else ""
    else:
        verb = _VERBS.get(method, method.lower())
    return Access(verb, group, resource, subresource, namespace, name), version
