"""Writes Grafana's dashboards (`deploy/monitoring/dashboards/*.json`); with `--check` says which are stale.

A dashboard is its rows, a row its panels, a panel a title, a unit of Grafana's, and queries with legends.
`tests/mesh/test_metrics.py` asks a real Prometheus each query.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[1] / "deploy" / "monitoring" / "dashboards"
_RATE = "$__rate_interval"
_CLIENT, _SERVER = 'reporter="source"', 'reporter="destination"'
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 24


class Panel(NamedTuple):
    """queries: by their legends."""

    title: str
    unit: str
    queries: dict[str, str]


class Dashboard(NamedTuple):
    """variables: names, each with the query for its values."""

    title: str
    variables: dict[str, str]
    rows: dict[str, list[Panel]]


def rate(metric: str, match: str, by: str = "") -> str:
    """The rate of a counter, by labels or in all."""
    of = f" by ({by})" if by else ""
    return f"sum{of} (rate({metric}{{{match}}}[{_RATE}]))"


def quantile(share: str, metric: str, match: str, by: str = "") -> str:
    """A quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{match}}}[{_RATE}])))"


def traffic(match: str, by: str) -> dict[str, list[Panel]]:
    """Requests and connections of whatever `match` selects, told apart by a label."""
    legend = f"{{{{{by}}}}}"
    requests = rate("istio_requests_total", match, by)
    errors = rate("istio_requests_total", f'{match}, response_code=~"5.."', by)
    return {
        "Requests": [
            Panel("Requests", "reqps", {legend: requests}),
            Panel(
                "Share without error",
                "percentunit",
                {legend: f"1 - ({errors} or 0 * {requests}) / {requests}"},
            ),
            Panel(
                "Duration",
                "ms",
                {
                    f"p{share} {legend}": quantile(
                        f"0.{share}", "istio_request_duration_milliseconds", match, by
                    )
                    for share in ("50", "99")
                },
            ),
            Panel(
                "Codes", "reqps", {"{{response_code}}": rate("istio_requests_total", match, "response_code")}
            ),
            Panel("Size of requests", "bytes", {legend: quantile("0.99", "istio_request_bytes", match, by)}),
            Panel(
                "Size of responses", "bytes", {legend: quantile("0.99", "istio_response_bytes", match, by)}
            ),
        ],
        "Connections": [
            Panel("Opened", "cps", {legend: rate("istio_tcp_connections_opened_total", match, by)}),
            Panel(
                "Closed, by how they ended",
                "cps",
                {"{{response_flags}}": rate("istio_tcp_connections_closed_total", match, "response_flags")},
            ),
            Panel(
                "Bytes",
                "Bps",
                {
                    f"sent {legend}": rate("istio_tcp_sent_bytes_total", match, by),
                    f"received {legend}": rate("istio_tcp_received_bytes_total", match, by),
                },
            ),
        ],
    }


def mesh() -> Dashboard:
    services = traffic(_SERVER, "destination_service")
    encrypted = f'{_SERVER}, connection_security_policy=~"mutual_tls|direct"'
    ours = [
        Panel(
            "Share of connections with proven identities",
            "percentunit",
            {
                "": f"{rate('istio_tcp_connections_opened_total', encrypted)} / "
                f"{rate('istio_tcp_connections_opened_total', _SERVER)}"
            },
        ),
        Panel(
            "Refused or cut",
            "cps",
            {"{{reporter}} {{reason}}": rate("warren_connections_refused_total", "", "reporter, reason")},
        ),
        Panel("Pods captured", "short", {"": "sum(warren_agent_pods_captured)"}),
    ]
    return Dashboard("Warren mesh", {}, {"Mesh": ours, **services})


def service() -> Dashboard:
    match = f'{_SERVER}, destination_service=~"$service"'
    return Dashboard(
        "Warren service",
        {"service": "label_values(istio_tcp_connections_opened_total, destination_service)"},
        traffic(match, "source_workload"),
    )


def workload() -> Dashboard:
    named = 'workload_namespace=~"$namespace", {side}_workload=~"$workload"'
    inbound = f"{_SERVER}, destination_" + named.format(side="destination")
    outbound = f"{_CLIENT}, source_" + named.format(side="source")
    rows = {f"{name} in": panels for name, panels in traffic(inbound, "source_workload").items()}
    rows |= {f"{name} out": panels for name, panels in traffic(outbound, "destination_service").items()}
    return Dashboard(
        "Warren workload",
        {
            "namespace": "label_values(istio_tcp_connections_opened_total, destination_workload_namespace)",
            "workload": "label_values(istio_tcp_connections_opened_total, destination_workload)",
        },
        rows,
    )


def node() -> Dashboard:
    agent, tunnel = 'instance=~"$agent"', 'instance=~"$tunnel"'
    capture = [
        Panel(
            "Pods",
            "short",
            {
                name: f"warren_agent_pods_{name}{{{agent}}}"
                for name in ("wanted", "enrolled", "captured", "failing")
            },
        ),
        Panel(
            "What the kernel decides", "ops", {"{{verdict}}": rate("warren_verdicts_total", agent, "verdict")}
        ),
        Panel(
            "Configuration, until a tunnel has it",
            "s",
            {
                "p99": quantile("0.99", "warren_xds_convergence_seconds", agent),
            },
        ),
    ]
    carried = [
        Panel("Open connections", "short", {"{{reporter}}": f"istio_tcp_sockets_open{{{tunnel}}}"}),
        Panel("Open tunnels", "short", {"{{reporter}}": f"warren_tunnels_open{{{tunnel}}}"}),
        Panel(
            "Tunnels of this node's pods, by node", "short", {"{{node}}": f"warren_pool_tunnels{{{tunnel}}}"}
        ),
        Panel("Streams in tunnels", "short", {"{{reporter}}": f"warren_streams_open{{{tunnel}}}"}),
        Panel(
            "Until the other end is connected",
            "s",
            {
                f"p{share} {{{{reporter}}}}": quantile(
                    f"0.{share}", "warren_connect_seconds", tunnel, "reporter"
                )
                for share in ("50", "99")
            },
        ),
        Panel(
            "TLS handshakes take",
            "s",
            {"p99 {{reporter}}": quantile("0.99", "warren_handshake_seconds", tunnel, "reporter")},
        ),
        Panel(
            "Requests that wait for a connection", "reqps", {"": rate("warren_queue_seconds_count", tunnel)}
        ),
        Panel("For so long", "s", {"p99": quantile("0.99", "warren_queue_seconds", tunnel)}),
        Panel("TLS handshakes", "cps", {"{{reason}}": rate("warren_handshakes_total", tunnel, "reason")}),
        Panel(
            "Certificates end in",
            "s",
            {
                "": f"min(warren_certificate_expiry_seconds{{{tunnel}}}) - time()",
            },
        ),
        Panel("Log lines dropped", "ops", {"": rate("warren_log_lines_dropped_total", tunnel)}),
    ]
    processes = [
        Panel("CPU", "percentunit", {"{{instance}}": f"rate(process_cpu_seconds_total[{_RATE}])"}),
        Panel("Memory", "bytes", {"{{instance}}": "process_resident_memory_bytes"}),
        Panel("File descriptors", "short", {"{{instance}}": "process_open_fds"}),
    ]
    return Dashboard(
        "Warren node",
        {
            "agent": "label_values(warren_agent_pods_wanted, instance)",
            "tunnel": "label_values(istio_tcp_sockets_open, instance)",
        },
        {"Capture": capture, "Tunnel": carried, "Processes": processes},
    )


ALL = {"mesh": mesh, "service": service, "workload": workload, "node": node}


def written(dashboard: Dashboard) -> str:
    """As Grafana reads it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in dashboard.rows.items():
        panels.append({"type": "row", "title": title, "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": 1}})
        top += 1
        for number, panel in enumerate(row):
            line, column = divmod(number * _WIDTH, _COLUMNS)
            panels.append(_panel(panel, column, top + line * _HEIGHT))
        top += -(-len(row) * _WIDTH // _COLUMNS) * _HEIGHT
    for number, one in enumerate(panels, 1):
        one["id"] = number
    whole = {
        "title": dashboard.title,
        "uid": dashboard.title.lower().replace(" ", "-"),
        "tags": ["warren"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), *(_variable(*one) for one in dashboard.variables.items())]},
        "panels": panels,
    }
    return json.dumps(whole, indent=1) + "\n"


def _panel(panel: Panel, x: int, y: int) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    targets = [
        {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend, "datasource": source}
        for number, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "gridPos": {"x": x, "y": y, "w": _WIDTH, "h": _HEIGHT},
        "targets": targets,
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def main() -> int:
    """Exit code 1 with `--check` if something is not as it is written."""
    wanted = {FOLDER / f"{name}.json": written(make()) for name, make in ALL.items()}
    if "--check" in sys.argv:
        stale = [path.name for path, text in wanted.items() if not path.exists() or path.read_text() != text]
        print(f"not up to date, run packaging/dashboards.py: {', '.join(stale)}" if stale else "up to date")
        return bool(stale)
    FOLDER.mkdir(exist_ok=True)
    for path, text in wanted.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
