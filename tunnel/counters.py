"""Counters and gauges of the Python side, in the OpenMetrics text format.

Small on purpose: the usual library for it costs more memory than everything else here together.
"""

from collections.abc import Iterator


class Metric:
    """One family; `kind` is "counter" or "gauge". Labels are given by their values, in order."""

    def __init__(self, name: str, kind: str, text: str, labels: tuple[str, ...] = ()) -> None:
        self._name = name
        self._kind = kind
        self._text = text
        self._labels = labels
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def add(self, *labels: str, by: float = 1) -> None:
        """Add `by` to the value with these labels, which starts at 0."""
        self._values[labels] = self._values.get(labels, 0) + by

    def set(self, value: float, *labels: str) -> None:
        """Set the value with these labels."""
        self._values[labels] = value

    def remove(self, *labels: str) -> None:
        """Forget the value with these labels."""
        self._values.pop(labels, None)

    def get(self, *labels: str) -> float:
        """The value with these labels, 0 when there is none yet."""
        return self._values.get(labels, 0)

    def lines(self) -> Iterator[str]:
        """The family in the text format (OpenMetrics 1.0 section 3.2)."""
        yield f"# HELP {self._name} {self._text}"
        yield f"# TYPE {self._name} {self._kind}"
        suffix = "_total" if self._kind == "counter" else ""
        for values, value in sorted(self._values.items()):
            pairs = ",".join(f'{label}="{_escape(v)}"' for label, v in zip(self._labels, values, strict=True))
            yield (
                f"{self._name}{suffix}{{{pairs}}} {value:.15g}"
                if pairs
                else f"{self._name}{suffix} {value:.15g}"
            )


class Counters:
    """What the clients of agent and authority count; names are ztunnel's where it has them."""

    def __init__(self) -> None:
        self.xds_messages = Metric(
            "istio_xds_message", "counter", "Configuration messages received.", ("url",)
        )
        self.xds_bytes = Metric("istio_xds_message_bytes", "counter", "Bytes of them.", ("url",))
        self.xds_rejected = Metric(
            "warren_xds_rejected", "counter", "Resources that were rejected.", ("url",)
        )
        self.xds_ends = Metric(
            "istio_xds_connection_terminations", "counter", "Configuration streams that ended.", ("reason",)
        )
        self.xds_connected = Metric(
            "warren_xds_connected", "gauge", "Whether configuration is being received."
        )
        self.zds_connected = Metric(
            "warren_zds_connected", "gauge", "Whether the agent can tell of its pods."
        )
        self.zds_ends = Metric("warren_zds_connection_terminations", "counter", "Streams of pods that ended.")
        self.pods = Metric("workload_manager_active_proxy_count", "gauge", "Pods that are served.")
        self.pods_pending = Metric(
            "workload_manager_pending_proxy_count", "gauge", "Pods that could not be served yet."
        )
        self.certificates = Metric(
            "warren_certificate_requests", "counter", "Certificate requests by result.", ("result",)
        )
        self.certificate_ends = Metric(
            "warren_certificate_expiry_seconds",
            "gauge",
            "Unix time at which each certificate ends.",
            ("identity",),
        )

        self.crl_reads = Metric(
            "warren_crl_reads", "counter", "Looks at a changed revocation list, by result.", ("result",)
        )
        self.crl_current = Metric(
            "warren_crl_current", "gauge", "Whether what the revocation list's file holds is in force."
        )
        self.crl_next_update = Metric(
            "warren_crl_next_update_seconds",
            "gauge",
            "Unix time by which a revocation list is to be renewed.",
        )

        self.names = Metric("warren_dns_names", "gauge", "Names of endpoints that are resolved.")
        self.lookups = Metric(
            "warren_dns_lookups", "counter", "Lookups of names of endpoints, by result.", ("result",)
        )

        lane = ("provider", "signal")
        self.exported = Metric(
            "warren_otlp_exported", "counter", "Spans and log records that collectors have taken.", lane
        )
        self.export_failures = Metric(
            "warren_otlp_failures", "counter", "Requests that collectors could not take at the time.", lane
        )
        self.export_dropped = Metric(
            "warren_otlp_dropped",
            "counter",
            "Spans and log records that were dropped, by reason: queue or rejected.",
            (*lane, "reason"),
        )

    def lines(self) -> Iterator[str]:
        """All families in the text format, without the closing mark."""
        for metric in vars(self).values():
            yield from metric.lines()


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
