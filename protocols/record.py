"""The tunnel's records of connections and requests, under the names that its access log has."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

_NAMES = {
    "source_address": "src.addr",
    "source_pod": "src.workload",
    "source_namespace": "src.namespace",
    "source_identity": "src.identity",
    "address": "dst.addr",
    "through": "dst.hbone_addr",
    "service": "dst.service",
    "pod": "dst.workload",
    "namespace": "dst.namespace",
    "identity": "dst.identity",
    "url_path": "path",
    "dry_run": "policy.dry_run",
    "security": "connection_security_policy",
}


class Record(Struct, frozen=True, rename=_NAMES.get):
    """A connection, open or ended, or a request. Empty and 0: not known, or none.

    since: when it began, time: when it ended, in RFC 3339. how: tunnel, direct, plain, requests. error: why
    it was refused or cut, reason: the same as metrics have it. A request has a method.
    """

    since: str = ""
    time: str = ""
    source_address: str = ""
    source_pod: str = ""
    source_namespace: str = ""
    source_identity: str = ""
    address: str = ""
    through: str = ""
    service: str = ""
    pod: str = ""
    namespace: str = ""
    identity: str = ""
    direction: str = ""
    url_path: str = ""
    dry_run: str = ""
    bytes_sent: int = 0
    bytes_recv: int = 0
    rtt_us: int = 0
    duration_ms: float = 0
    error: str = ""
    reason: str = ""
    method: str = ""
    authority: str = ""
    response_code: int = 0
    response_flags: str = ""
    route_name: str = ""
    security: str = ""

    @property
    def is_request(self) -> bool:
        """Else it is a connection."""
        return bool(self.method)

    @property
    def how(self) -> str:
        """The path of a connection's bytes: tunnel, direct, plain, requests, or empty."""
        return "" if self.is_request else self.url_path

    @property
    def verdict(self) -> str:
        """`refused` by a policy, `failed` for another reason, `ok`; of a request by its status."""
        if self.reason.startswith("policy_") or self.reason in ("peer_denied", "not_in_registry"):
            return "refused"
        failed = (
            self.response_code >= 500 or self.response_code == 0 if self.is_request else bool(self.reason)
        )
        return "failed" if failed else "ok"

    @property
    def source(self) -> str:
        """`namespace/pod`, or the address."""
        return _named(self.source_namespace, self.source_pod) or _host(self.source_address)

    @property
    def destination(self) -> str:
        """`namespace/pod:port`, with its service's or own address where there is no pod."""
        inbound = self.direction == "inbound" and self.through
        port = (self.through if inbound else self.address).rpartition(":")[2]
        name = _named(self.namespace, self.pod) or self.service or self.authority
        return f"{name}:{port}" if name and port and not self.is_request else name or self.address

    def age(self, now: float) -> float:
        """Seconds for which it has been open."""
        return max(0.0, now - timestamp(self.since))


def record(said: dict[str, Any]) -> Record:
    """As the tunnel tells it; fields that are unknown here are left out."""
    return msgspec.convert(said, Record)


def timestamp(text: str) -> float:
    """Unix seconds of RFC 3339 in UTC."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC).timestamp()


def _named(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if name else ""


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")
