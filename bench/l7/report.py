"""The results as tables."""

from typing import NamedTuple

from bench.results import Summary, key, ratio

HTTP1, GRPC = "http1", "grpc"
NAMES = {
    key(HTTP1, "per_second"): "small requests per second",
    key(HTTP1, "p50"): "their p50, us",
    key(HTTP1, "p99"): "their p99, us",
    key(HTTP1, "cpu"): "the proxies' CPU seconds per 1,000",
    key(GRPC, "per_second"): "gRPC-like requests per second",
    key(GRPC, "p50"): "their p50, us",
    key(GRPC, "p99"): "their p99, us",
    key(GRPC, "cpu"): "the proxies' CPU seconds per 1,000",
    key("download", "gbps"): "answers of 100 MB, Gbit/s",
    key("download", "cpu"): "the proxies' CPU seconds per GB",
}


class Target(NamedTuple):
    """A bound on a figure's ratio to that of another path."""

    subject: str
    reference: str
    figure: str
    bound: float
    more: bool


def _beside_envoy(where: str, times: float) -> list[Target]:
    subject, reference = f"warren{where}", f"envoy{where}"
    rates = [Target(subject, reference, key(what, "per_second"), times, True) for what in (HTTP1, GRPC)]
    if where:
        return rates
    tails = [Target(subject, reference, key(what, "p99"), 0.6, False) for what in (HTTP1, GRPC)]
    return (
        rates + tails + [Target(subject, reference, key(what, "cpu"), 0.5, False) for what in (HTTP1, GRPC)]
    )


TARGETS = [
    *_beside_envoy("", 2),
    *_beside_envoy("-node", 3),
    *(Target("warren", "ambient", key(what, "per_second"), 3, True) for what in (HTTP1, GRPC)),
    Target("warren", "warren-l4", key("download", "gbps"), 0.9, True),
    Target("warren-1000", "warren", key(HTTP1, "per_second"), 0.9, True),
]


def markdown(summary: Summary) -> str:
    """Targets beside what was found, and all medians."""
    paths = sorted({path for by_path in summary.values() for path in by_path})
    lines = ["| path | figure | beside | bound | found | |", "| --- | --- | --- | ---: | ---: | --- |"]
    for target in TARGETS:
        if {target.subject, target.reference} <= set(paths):
            lines.append(_line(summary, target))
    lines += ["", f"| median (minimum..maximum) | {' | '.join(paths)} |", f"| --- |{' ---: |' * len(paths)}"]
    for figure, name in NAMES.items():
        lines.append(f"| {name} | {' | '.join(_cell(summary, figure, path) for path in paths)} |")
    return "\n".join(lines) + "\n"


def _line(summary: Summary, target: Target) -> str:
    found = ratio(summary, target.figure, target.subject, target.reference)
    reached = found is not None and (found >= target.bound if target.more else found <= target.bound)
    told = "not measured" if found is None else f"{found:.2f}x"
    bound = f"at {'least' if target.more else 'most'} {target.bound:g}x"
    verdict = "reached" if reached else "**not reached**"
    return f"| {target.subject} | {target.figure} | {target.reference} | {bound} | {told} | {verdict} |"


def _cell(summary: Summary, figure: str, path: str) -> str:
    found = summary.get(figure, {}).get(path)
    if not found:
        return "-"
    digits = 0 if found.median >= 100 else 3
    return f"{found.median:,.{digits}f} ({found.low:,.{digits}f}..{found.high:,.{digits}f})"
