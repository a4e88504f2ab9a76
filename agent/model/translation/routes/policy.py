"""A DestinationRule's traffic policy -> `warren.routes.Policy`, with Istio's and Envoy's defaults."""

from typing import Any
from urllib.parse import urlencode

from agent.model.schema.http_values import milliseconds
from agent.model.schema.istio import traffic_policy as schema
from agent.model.schema.istio.locality import Distribute, Failover, LocalityLb
from protocols import routes_pb2 as pb

SECRET, FILES = "Secret/", "Files/"  # begin the names of credentials
PARTS = 10_000  # of a million in a percent
CONNECT_TIMEOUT = 10_000  # milliseconds: meshConfig.connectTimeout
IDLE_TIMEOUT = 3_600_000
_LARGEST_RING = 8 << 20  # Envoy's maximum_ring_size
_ALGORITHMS = {
    "RANDOM": pb.RANDOM,
    "PASSTHROUGH": pb.PASSTHROUGH,
    "ROUND_ROBIN": pb.ROUND_ROBIN,
}
_UPSTREAM = {"UPGRADE": pb.UPGRADE_TO_HTTP2}
_PORT_BLOCKS = ("load_balancer", "connection_pool", "outlier_detection", "tls")
_OF_REQUESTS = (
    *("http1_max_pending_requests", "http2_max_requests", "max_requests_per_connection", "max_retries"),
    *("max_concurrent_streams", "upstream_protocol"),
)
_BLOCKS = (*_PORT_BLOCKS, "tunnel", "proxy_protocol", "retry_budget")


def merged(
    whole: schema.TrafficPolicy | None, subset: schema.TrafficPolicy | None, port: int
) -> schema.TrafficPolicy | None:
    """What holds for a port of a subset: the subset's blocks before the whole's, a port's before both.

    Where a port has settings of its own, they replace all that a port can have: what is not written there has
    its default (Istio's MergeTrafficPolicy). None: nothing is written.
    """
    blocks: dict[str, Any] = dict.fromkeys(_BLOCKS)
    for policy in filter(None, (whole, subset)):
        blocks |= {name: block for name in _BLOCKS if (block := getattr(policy, name)) is not None}
        if own := policy.of_port(port):
            blocks |= {name: getattr(own, name) for name in _PORT_BLOCKS}
    return schema.TrafficPolicy(**blocks) if any(blocks.values()) else None


def needs_requests(policy: pb.Policy) -> bool:
    """Whether a policy can only be kept request by request, not connection by connection."""
    balancer, pool = policy.load_balancer, policy.connection_pool
    hashed = balancer.consistent_hash.WhichOneof("key") not in (None, "source_ip")
    spread = policy.HasField("load_balancer") and not hashed and balancer.algorithm != pb.PASSTHROUGH
    limited = any(getattr(pool, name) for name in _OF_REQUESTS)
    of_requests = policy.HasField("outlier_detection") or policy.HasField("retry_budget")
    return (
        hashed
        or (spread and not balancer.HasField("consistent_hash"))
        or limited
        or of_requests
        or _originates(policy)
    )


def needs_connections(policy: pb.Policy) -> bool:
    """Whether a policy asks for more than to connect to any endpoint: what holds without one does that."""
    quiet = pb.Policy()
    quiet.CopyFrom(policy)
    if policy.connection_pool == default_pool():
        quiet.ClearField("connection_pool")
    if not (policy.load_balancer.HasField("consistent_hash") or policy.load_balancer.HasField("locality")):
        quiet.ClearField("load_balancer")  # connections are spread anyway
    return quiet != pb.Policy()


def _originates(policy: pb.Policy) -> bool:
    return policy.tls.mode in (pb.SIMPLE, pb.MUTUAL)


def translate(policy: schema.TrafficPolicy) -> pb.Policy:
    """One whose blocks have been merged."""
    result = pb.Policy()
    if balancer := policy.load_balancer:
        result.load_balancer.CopyFrom(_load_balancer(balancer, policy.outlier_detection is not None))
    if policy.connection_pool:
        result.connection_pool.CopyFrom(_connection_pool(policy.connection_pool))
    if policy.outlier_detection:
        result.outlier_detection.CopyFrom(_outlier_detection(policy.outlier_detection))
    if policy.tls:
        result.tls.CopyFrom(_tls(policy.tls))
    if policy.proxy_protocol:
        result.proxy_protocol = pb.V2 if policy.proxy_protocol.version == "V2" else pb.V1
    if tunnel := policy.tunnel:
        method, host, port = tunnel.protocol or "CONNECT", tunnel.target_host, tunnel.target_port
        result.tunnel.CopyFrom(pb.Tunnel(method=method, host=host, port=port))
    if budget := policy.retry_budget:
        percent = 20.0 if budget.percent is None else budget.percent
        result.retry_budget.CopyFrom(
            pb.RetryBudget(
                parts=round(percent * PARTS),
                min_retry_concurrency=budget.min_retry_concurrency or 3,
                interval_ms=_ms(budget.budget_interval, 0),
            )
        )
    return result


def _load_balancer(balancer: schema.LoadBalancer, ejects: bool) -> pb.LoadBalancer:
    result = pb.LoadBalancer(algorithm=_ALGORITHMS.get(balancer.simple or "", pb.LEAST_REQUEST))
    if balancer.consistent_hash:
        hashed = _consistent_hash(balancer.consistent_hash)
        if hashed.WhichOneof("key"):
            result.consistent_hash.CopyFrom(hashed)
        else:
            result.algorithm = pb.RANDOM  # as Envoy, without anything to hash
    if warmup := balancer.warmup:
        minimum = 10.0 if warmup.minimum_percent is None else warmup.minimum_percent
        result.warmup.duration_ms = milliseconds(warmup.duration)
        result.warmup.minimum_parts = round(minimum * PARTS)
        result.warmup.aggression = 1.0 if warmup.aggression is None else warmup.aggression
    elif balancer.warmup_duration_secs:
        duration = milliseconds(balancer.warmup_duration_secs)
        result.warmup.CopyFrom(pb.Warmup(duration_ms=duration, minimum_parts=10 * PARTS, aggression=1.0))
    if locality := _locality(balancer.locality_lb_setting, ejects):
        result.locality.CopyFrom(locality)
    return result


def _consistent_hash(wanted: schema.ConsistentHash) -> pb.ConsistentHash:
    result = pb.ConsistentHash()
    if wanted.http_header_name:
        result.header = wanted.http_header_name.lower()
    elif cookie := wanted.http_cookie:
        attributes = [pb.Attribute(name=one.name, value=one.value) for one in cookie.attributes]
        result.cookie.CopyFrom(pb.Cookie(name=cookie.name, path=cookie.path, attributes=attributes))
        if cookie.ttl:
            result.cookie.ttl_ms = milliseconds(cookie.ttl)
    elif wanted.use_source_ip:
        result.source_ip = True
    elif wanted.http_query_parameter_name:
        result.query = wanted.http_query_parameter_name
    if wanted.maglev:
        result.maglev_table_size = wanted.maglev.table_size
    elif wanted.ring_hash:
        result.minimum_ring_size = min(wanted.ring_hash.minimum_ring_size, _LARGEST_RING)
    else:
        result.minimum_ring_size = min(wanted.minimum_ring_size, _LARGEST_RING)
    return result


def _locality(wanted: LocalityLb | None, ejects: bool) -> pb.Locality | None:
    """ejects: without outlier detection nothing fails over, and all localities are one."""
    if wanted is None or wanted.enabled is False:
        return None
    if wanted.distribute:
        return pb.Locality(distribute=map(_distribute, wanted.distribute))
    if not ejects:
        return None
    if wanted.failover_priority:
        return pb.Locality(priority=wanted.failover_priority)
    return pb.Locality(failover=True, failovers=map(_failover, wanted.failover))


def _distribute(wanted: Distribute) -> pb.Distribute:
    result = pb.Distribute(to=wanted.to)
    setattr(result, "from", wanted.from_)
    return result


def _failover(wanted: Failover) -> pb.Failover:
    result = pb.Failover(to=wanted.to)
    setattr(result, "from", wanted.from_)
    return result


def _connection_pool(pool: schema.ConnectionPool) -> pb.ConnectionPool:
    result = default_pool()
    if tcp := pool.tcp:
        result.max_connections = tcp.max_connections
        result.connect_timeout_ms = _ms(tcp.connect_timeout, CONNECT_TIMEOUT)
        result.max_connection_duration_ms = _ms(tcp.max_connection_duration, 0)
        result.tcp_idle_timeout_ms = _ms(tcp.idle_timeout, IDLE_TIMEOUT)
        if alive := tcp.tcp_keepalive:
            time, interval = _ms(alive.time, 0), _ms(alive.interval, 0)
            result.tcp_keepalive.CopyFrom(
                pb.TcpKeepalive(probes=alive.probes, time_ms=time, interval_ms=interval)
            )
    if http := pool.http:
        result.http1_max_pending_requests = http.http1_max_pending_requests
        result.http2_max_requests = http.http2_max_requests
        result.max_requests_per_connection = http.max_requests_per_connection
        result.max_retries = http.max_retries
        result.http_idle_timeout_ms = _ms(http.idle_timeout, IDLE_TIMEOUT)
        result.max_concurrent_streams = http.max_concurrent_streams
        upgraded = _UPSTREAM.get(http.h2_upgrade_policy, pb.BY_PORT)
        result.upstream_protocol = pb.AS_CLIENT if http.use_client_protocol else upgraded
    return result


def default_pool() -> pb.ConnectionPool:
    """Where no policy says anything."""
    return pb.ConnectionPool(
        connect_timeout_ms=CONNECT_TIMEOUT,
        tcp_idle_timeout_ms=IDLE_TIMEOUT,
        http_idle_timeout_ms=IDLE_TIMEOUT,
    )


def _outlier_detection(wanted: schema.OutlierDetection) -> pb.OutlierDetection:
    local = wanted.consecutive_local_origin_failures
    split = wanted.split_external_local_origin_errors
    return pb.OutlierDetection(
        consecutive_5xx=5 if wanted.consecutive5xx_errors is None else wanted.consecutive5xx_errors,
        consecutive_gateway_errors=wanted.consecutive_gateway_errors or 0,
        split_local_origin=split,
        consecutive_local_origin_failures=(5 if local is None else local) if split else 0,
        interval_ms=_ms(wanted.interval, 10_000),
        base_ejection_ms=_ms(wanted.base_ejection_time, 30_000),
        max_ejection_percent=wanted.max_ejection_percent or 10,
        min_health_percent=wanted.min_health_percent,
        error_statuses=wanted.outlier_detection_http_error_codes,
    )


def _tls(wanted: schema.ClientTls) -> pb.Tls:
    return pb.Tls(
        mode=getattr(pb, wanted.mode),
        credential=credential_name(wanted),
        subject_alt_names=wanted.subject_alt_names,
        sni=wanted.sni,
        insecure_skip_verify=bool(wanted.insecure_skip_verify),
    )


def credential_name(tls: schema.ClientTls) -> str:
    """The name under which a tunnel gets what TLS needs; empty: it needs nothing but the system's roots.

    `Secret/NAME` in the client's namespace, or `Files/` with the paths as a query.
    """
    if tls.mode not in ("SIMPLE", "MUTUAL"):
        return ""
    if tls.credential_name:
        return f"{SECRET}{tls.credential_name.removeprefix('kubernetes://')}"
    mutual = tls.mode == "MUTUAL"
    paths = {
        "certificate": tls.client_certificate if mutual else "",
        "key": tls.private_key if mutual else "",
        "roots": tls.ca_certificates,
        "crl": tls.ca_crl,
    }
    written = {name: path for name, path in paths.items() if path}
    return f"{FILES}{urlencode(written)}" if written else ""


def _ms(text: str, default: int) -> int:
    return milliseconds(text) if text else default
