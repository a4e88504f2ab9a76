"""The results as a picture that can be read at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.results import Spread, Summary, key

COLOURS = {
    "none": "#b8bcc2",
    "hops": "#c7b58a",
    "warren": "#d1495b",
    "baseline": "#8f5a67",
    "envoy": "#00798c",
    "ztunnel": "#5b6c9e",
    "none-node": "#dcdee2",
    "warren-node": "#edae9a",
    "baseline-node": "#c9a9a1",
    "envoy-node": "#8fc3cb",
}
PANELS = [
    ("one stream, Gbit/s", key("stream1", "gbps"), True),
    ("64-byte round trip p50, us", key("round_trip", "p50"), False),
    ("64-byte round trip p99, us", key("round_trip", "p99"), False),
    ("connections per second", key("connect", "per_second"), True),
    ("small HTTP requests per second", key("http", "per_second"), True),
    ("eight streams, Gbit/s", key("stream8", "gbps"), True),
    ("round trip p50, all on one CPU, us", key("round_trip", "p50", True), False),
    ("round trip p99, all on one CPU, us", key("round_trip", "p99", True), False),
    ("connections per second, all on one CPU", key("connect", "per_second", True), True),
    ("memory of a fresh proxy, MB", key("fresh", "memory_mb"), False),
    ("proxies' CPU seconds per GB", key("stream1", "proxies_cpu"), False),
    ("proxies' CPU s per 10,000 round trips", key("round_trip", "proxies_cpu"), False),
    ("the same, all on one CPU", key("round_trip", "proxies_cpu", True), False),
    ("proxies' CPU s per 1,000 connections", key("connect", "proxies_cpu"), False),
    ("memory per idle connection, kB", key("idle10000", "kb_each"), False),
]
"""Title, figure, and whether more is better."""
COLUMNS = 5


def plot(file: Path, title: str, paths: Sequence[str], summary: Summary) -> None:
    """Draw a bar a path in a panel a figure, with whiskers from minimum to maximum, into the PNG `file`."""
    import matplotlib  # noqa: PLC0415  (slow, and only needed at the end)

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    rows = -(-len(PANELS) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(4.1 * COLUMNS, 3.0 * rows), layout="constrained")
    for axis, (label, name, more) in zip(axes.flat, PANELS, strict=True):
        found = {path: summary[name][path] for path in paths if path in summary.get(name, {})}
        _panel(axis, f"{label} {'▲' if more else '▼'}", found)
    legend = "▲ more is better   ▼ less is better   bars: medians, whiskers: minimum to maximum"
    figure.suptitle(f"{title}\n{legend}")
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _panel(axis: Any, title: str, found: Mapping[str, Spread]) -> None:
    axis.set_title(title, fontsize=10)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.tick_params(axis="y", length=0, labelsize=9)
    axis.tick_params(axis="x", length=0, labelbottom=False)
    paths, spreads = list(found), list(found.values())
    medians = [s.median for s in spreads]
    whiskers = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
    places = list(range(len(paths)))
    axis.barh(places, medians, color=[COLOURS.get(p, "#888888") for p in paths], xerr=whiskers,
              error_kw={"ecolor": "#333333", "elinewidth": 1, "capsize": 2})  # fmt: skip
    axis.set_yticks(places, paths)
    axis.invert_yaxis()
    right = max((s.high for s in spreads), default=1.0) or 1.0
    axis.set_xlim(0, right * 1.22)
    for place, spread in zip(places, spreads, strict=True):
        axis.text(spread.high + right * 0.02, place, _short(spread.median), va="center", fontsize=9)


def _short(value: float) -> str:
    """About three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
