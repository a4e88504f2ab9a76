"""A DestinationRule's traffic policy: how a destination's endpoints are chosen, connected to and judged.

None, or an empty text: not written. Defaults are Envoy's, and filled in where the policy is translated.
"""

from collections import Counter
from typing import Annotated, Literal

import msgspec

from agent.model.schema.http_values import check_durations, check_header_name, milliseconds
from agent.model.schema.istio.base import Strict
from agent.model.schema.istio.locality import LocalityLb, ZoneAwareLb
from agent.model.schema.istio.route_values import PortSelector, Uint32, check_port
from agent.model.schema.objects import to_address
from agent.model.schema.syntax import FieldError, is_dns_name

_LARGEST_MAGLEV = 5_000_011
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_OfHundred = Annotated[int, msgspec.Meta(ge=0, le=100)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=100)]  # percent
_ErrorCode = Annotated[int, msgspec.Meta(ge=100, le=599)]


class CookieAttribute(Strict, frozen=True):
    name: str
    value: str = ""


class HttpCookie(Strict, frozen=True):
    """ttl: where it is written, a client without the cookie is given one; 0s: for its session."""

    name: str
    path: str = ""
    ttl: str = ""
    attributes: tuple[CookieAttribute, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise FieldError("a cookie has a name", "name")
        if self.ttl:
            milliseconds(self.ttl)
        for name, count in Counter(one.name for one in self.attributes).items():
            if not name or count > 1:
                raise FieldError(f"{name!r}: each attribute has a name of its own", "attributes")


class RingHash(Strict, frozen=True):
    minimum_ring_size: _Size = 0


class Maglev(Strict, frozen=True):
    table_size: _Size = 0

    def __post_init__(self) -> None:
        if not 0 < self.table_size < _LARGEST_MAGLEV or not _is_prime(self.table_size):
            reason = f"{self.table_size} is no prime below {_LARGEST_MAGLEV}; Envoy's default is 65537"
            raise FieldError(reason, "tableSize")


class ConsistentHash(Strict, frozen=True):
    http_header_name: str | None = None
    http_cookie: HttpCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: Maglev | None = None
    minimum_ring_size: _Size = 0

    def __post_init__(self) -> None:
        _one_of(self, "http_header_name", "http_cookie", "use_source_ip", "http_query_parameter_name")
        _one_of(self, "ring_hash", "maglev")
        if self.http_header_name:
            check_header_name(self.http_header_name, "httpHeaderName")
        if self.minimum_ring_size and (self.ring_hash or self.maglev):
            raise FieldError("deprecated, and excludes ringHash and maglev; remove it", "minimumRingSize")


class Warmup(Strict, frozen=True):
    duration: str
    minimum_percent: _Share | None = None
    aggression: Annotated[float, msgspec.Meta(gt=0)] | None = None

    def __post_init__(self) -> None:
        check_durations(self, duration="duration")
        if not self.duration:
            raise FieldError("a duration such as 30s is needed", "duration")


class BackendUtilization(Strict, frozen=True):
    """Not acted on."""

    error_utilization_penalty_percent: Uint32 = 0
    metric_names_for_computing_utilization: tuple[str, ...] = ()
    weight_expiration_period: str = ""
    weight_stabilization_period: str = ""
    weight_update_period: str = ""


class LoadBalancer(Strict, frozen=True):
    simple: (
        Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"] | None
    ) = None
    consistent_hash: ConsistentHash | None = None
    backend_utilization: BackendUtilization | None = None
    locality_lb_setting: LocalityLb | None = None
    zone_aware_lb_setting: ZoneAwareLb | None = None
    warmup: Warmup | None = None
    warmup_duration_secs: str = ""

    def __post_init__(self) -> None:
        _one_of(self, "simple", "consistent_hash", "backend_utilization")
        _one_of(self, "locality_lb_setting", "zone_aware_lb_setting")
        check_durations(self, warmup_duration_secs="warmupDurationSecs")


class TcpKeepalive(Strict, frozen=True):
    probes: Uint32 = 0
    time: str = ""
    interval: str = ""

    def __post_init__(self) -> None:
        check_durations(self, time="time", interval="interval")


class TcpSettings(Strict, frozen=True):
    """idle_timeout: 0s is none."""

    max_connections: _Count = 0
    connect_timeout: str = ""
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: str = ""
    idle_timeout: str = ""

    def __post_init__(self) -> None:
        check_durations(
            self, connect_timeout="connectTimeout", max_connection_duration="maxConnectionDuration"
        )
        if self.idle_timeout and milliseconds(self.idle_timeout):
            check_durations(self, idle_timeout="idleTimeout")


class Http2KeepAlive(Strict, frozen=True):
    interval: str
    timeout: str

    def __post_init__(self) -> None:
        check_durations(self, interval="interval", timeout="timeout")


class HttpSettings(Strict, frozen=True):
    """0: not written."""

    http1_max_pending_requests: _Count = 0
    http2_max_requests: _Count = 0
    max_requests_per_connection: _Count = 0
    max_retries: _Count = 0
    idle_timeout: str = ""
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] = "DEFAULT"
    use_client_protocol: bool = False
    max_concurrent_streams: _Count = 0
    http2_keep_alive: Http2KeepAlive | None = None

    def __post_init__(self) -> None:
        check_durations(self, idle_timeout="idleTimeout")
        if self.use_client_protocol and self.h2_upgrade_policy == "UPGRADE":
            reason = "h2UpgradePolicy UPGRADE excludes it; keep one"
            raise FieldError(reason, "useClientProtocol")


class ConnectionPool(Strict, frozen=True):
    tcp: TcpSettings | None = None
    http: HttpSettings | None = None

    def __post_init__(self) -> None:
        if not self.tcp and not self.http:
            raise FieldError("nothing is set; write tcp or http")


class OutlierDetection(Strict, frozen=True):
    """consecutive_errors: deprecated, and without effect."""

    consecutive5xx_errors: Uint32 | None = None
    consecutive_gateway_errors: Uint32 | None = None
    consecutive_local_origin_failures: Uint32 | None = None
    consecutive_errors: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)] = 0
    split_external_local_origin_errors: bool = False
    interval: str = ""
    base_ejection_time: str = ""
    max_ejection_percent: _OfHundred = 0
    min_health_percent: _OfHundred = 0
    outlier_detection_http_error_codes: tuple[_ErrorCode, ...] = ()

    def __post_init__(self) -> None:
        check_durations(self, interval="interval", base_ejection_time="baseEjectionTime")
        if self.consecutive_local_origin_failures and not self.split_external_local_origin_errors:
            reason = "it needs splitExternalLocalOriginErrors: true"
            raise FieldError(reason, "consecutiveLocalOriginFailures")


class ClientTls(Strict, frozen=True):
    """Files are paths on the client's node; credential_name: a Secret's."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: bool | None = None

    def __post_init__(self) -> None:
        originates = self.mode in ("SIMPLE", "MUTUAL")
        if originates and self.insecure_skip_verify:
            self._check_unverified()
        if originates and self.credential_name:
            for name in ("client_certificate", "private_key", "ca_certificates", "ca_crl"):
                if getattr(self, name):
                    raise FieldError(f"excludes {_written(name)}; keep one of both", "credentialName")
        elif self.mode == "MUTUAL" and not (self.client_certificate and self.private_key):
            raise FieldError("mode MUTUAL needs clientCertificate and privateKey, or credentialName")

    def _check_unverified(self) -> None:
        verified = self.ca_certificates or self.subject_alt_names
        if verified or (self.mode == "SIMPLE" and self.credential_name):
            reason = "nothing is verified then; remove caCertificates, credentialName and subjectAltNames"
            raise FieldError(reason, "insecureSkipVerify")


class ProxyProtocol(Strict, frozen=True):
    version: Literal["V1", "V2"] = "V1"


class TunnelSettings(Strict, frozen=True):
    target_host: str
    target_port: Uint32
    protocol: str = ""

    def __post_init__(self) -> None:
        if self.protocol not in ("", "CONNECT", "POST"):
            raise FieldError(f"{self.protocol!r} is neither CONNECT nor POST", "protocol")
        if not is_dns_name(self.target_host) and not _is_address(self.target_host):
            raise FieldError(f"{self.target_host!r} is no DNS name and no address", "targetHost")
        check_port(self.target_port, "targetPort")


class RetryBudget(Strict, frozen=True):
    percent: _Share | None = None
    min_retry_concurrency: Uint32 = 0
    budget_interval: str = ""

    def __post_init__(self) -> None:
        if self.budget_interval:
            milliseconds(self.budget_interval)


class PortPolicy(Strict, frozen=True):
    """What it has replaces that of the whole destination, block by block."""

    port: PortSelector | None = None
    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTls | None = None

    def __post_init__(self) -> None:
        if not self.port:
            raise FieldError("port.number is needed", "port")
        if not (self.load_balancer or self.connection_pool or self.outlier_detection or self.tls):
            raise FieldError("nothing is set; write loadBalancer, connectionPool, outlierDetection or tls")


class TrafficPolicy(Strict, frozen=True):
    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTls | None = None
    port_level_settings: Annotated[tuple[PortPolicy, ...], msgspec.Meta(max_length=4096)] = ()
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None

    def __post_init__(self) -> None:
        if not any(getattr(self, name) for name in self.__struct_fields__):
            raise FieldError("nothing is set; write loadBalancer, connectionPool, tls, ...")
        _one_of(self, "tunnel", "proxy_protocol")

    def of_port(self, number: int) -> PortPolicy | None:
        """What is said of one port alone."""
        ports = self.port_level_settings
        return next((one for one in ports if one.port and one.port.number == number), None)


def _one_of(item: Strict, *names: str) -> None:
    written = [_written(name) for name in names if getattr(item, name) is not None]
    if len(written) > 1:
        raise FieldError(f"{' and '.join(written)} exclude each other; keep one", written[1])


def _written(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


def _is_address(text: str) -> bool:
    try:
        to_address(text)
    except ValueError:
        return False
    return True


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
