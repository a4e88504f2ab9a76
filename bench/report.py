"""The results as a Markdown page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.results import Failure, Record, Summary, key, ratio, summarise
from bench.targets import COMPARISONS, Comparison, check, comparisons


@dataclass(frozen=True)
class Row:
    """A line of the table: a figure, its name for people, and its digits after the point."""

    label: str
    figure: str
    digits: int = 0


def _both(label: str, workload: str, figure: str, digits: int = 0) -> list[Row]:
    """The row at default scheduling and the row with everything on one CPU."""
    return [
        Row(label, key(workload, figure), digits),
        Row(f"{label}, one CPU", key(workload, figure, True), digits),
    ]


GROUPS: dict[str, list[Row]] = {
    "Throughput (iperf3)": [
        *_both("one stream, Gbit/s", "stream1", "gbps", 2),
        *_both("eight streams, Gbit/s", "stream8", "gbps", 2),
    ],
    "Round trips of 64 bytes": [
        *_both("p50, us", "round_trip", "p50"),
        *_both("p99, us", "round_trip", "p99"),
    ],
    "Connect, one byte each way, close": [
        *_both("connections per second", "connect", "per_second"),
        *_both("p50, us", "connect", "p50"),
        *_both("p99, us", "connect", "p99"),
    ],
    "Round trips of a byte beside four flows that send all they can": [
        *_both("p50, us", "beside", "p50"),
        *_both("p99, us", "beside", "p99"),
        *_both("the flows, Gbit/s", "beside", "gbps", 2),
    ],
    "Small HTTP requests (wrk, 16 connections)": [
        *_both("requests per second", "http", "per_second"),
        *_both("p99, us", "http", "p99"),
    ],
    "CPU seconds of the proxies": [
        *_both("per GB, one stream", "stream1", "proxies_cpu", 3),
        *_both("per GB, eight streams", "stream8", "proxies_cpu", 3),
        *_both("per GB, four flows beside round trips", "beside", "proxies_cpu", 3),
        *_both("per 10,000 round trips", "round_trip", "proxies_cpu", 3),
        *_both("per 1,000 connections", "connect", "proxies_cpu", 3),
        *_both("per 10,000 HTTP requests", "http", "proxies_cpu", 3),
    ],
    "CPU seconds of client, proxies and server": [
        *_both("per GB, one stream", "stream1", "all_cpu", 3),
        *_both("per GB, eight streams", "stream8", "all_cpu", 3),
        *_both("per GB, four flows beside round trips", "beside", "all_cpu", 3),
        *_both("per 10,000 round trips", "round_trip", "all_cpu", 3),
        *_both("per 1,000 connections", "connect", "all_cpu", 3),
        *_both("per 10,000 HTTP requests", "http", "all_cpu", 3),
    ],
    "Memory and rest": [
        Row("fresh and idle, MB", key("fresh", "memory_mb"), 1),
        Row("fresh with 1,000 idle connections, MB", key("idle1000", "memory_mb"), 1),
        Row("between rounds, MB", key("rest", "memory_mb"), 1),
        Row("per idle connection of 10,000, kB", key("idle10000", "kb_each"), 1),
        Row("the same, all proxies together, kB", key("idle10000", "kb_each_all"), 1),
        Row("CPU at rest, % of one CPU", key("rest", "cpu_percent"), 2),
        Row("CPU at rest with 10,000 idle connections, %", key("idle10000", "cpu_percent"), 2),
    ],
}


NOTES = """\
"One CPU" means that client, proxies and server share one CPU, which takes the luck of idle CPUs' wake-ups out
of the comparison. All paths lie between pods of the same topology, with congestion control cubic and two
worker threads a proxy; clients of `envoy` connect to its listener on loopback, those of `warren` and
`ztunnel` are redirected by the same eBPF programs. `hops` is the floor: three TCP connections and two relays
that only copy. Memory is that of the larger proxy of a pair (PSS: a page
that several processes have counts in part; a tunnel's with its keeper's), CPU time that of both. Paths
`...-node` are within one node: there the tunnel of `warren-node` carries the first connection of a pair, and
the kernel the others, of which it tells the tunnel."""


@dataclass(frozen=True)
class Page:
    """What is to be told."""

    environment: dict[str, Any]
    paths: Sequence[str]
    records: Sequence[Record]
    failures: Sequence[Failure]


def markdown(page: Page) -> str:
    """The whole page."""
    summary = summarise(page.records)
    parts = ["# Benchmark", _introduction(page)]
    for comparison in comparisons(page.paths):
        title = f"## Targets: {comparison.subject} beside {comparison.reference}"
        parts += [title, targets_table(summary, comparison)]
    parts += ["## Medians (minimum..maximum)", medians_table(page.paths, summary)]
    for comparison in COMPARISONS:
        if comparison.reference in page.paths:
            paths = [path for path in page.paths if path in comparison.paths]
            title = f"## Ratios of the medians to {comparison.reference}"
            parts += [title, ratios_table(paths, summary, comparison.reference)]
    if page.failures:
        parts += ["## Failed measurements", "\n".join(_told(failure) for failure in page.failures)]
    return "\n\n".join(parts) + "\n"


def _introduction(page: Page) -> str:
    environment, records = page.environment, page.records
    repeated = sum(record.attempts - 1 for record in records)
    noisy = sum(record.noisy for record in records)
    versions = "; ".join(f"{name} {text}" for name, text in environment["versions"].items() if text)
    return (
        f"{environment['time']}, {environment['cpus']} CPUs ({environment['cpu']}), "
        f"kernel {environment['kernel']}, {environment['rounds']} rounds; {versions}.\n\n"
        f"{len(records)} measurements, {repeated} attempts repeated because of other programs' load or a "
        f"failure, {noisy} kept although other programs were busy, {len(page.failures)} failed.\n\n{NOTES}"
    )


def _told(failure: Failure) -> str:
    cell = failure.cell
    where = " on one CPU" if cell.one_cpu else ""
    when = "" if cell.round is None else f", round {cell.round + 1}"
    return f"- {cell.path}, {cell.workload}{where}{when}: {failure.reason}"


def targets_table(summary: Summary, comparison: Comparison) -> str:
    """Targets, what was found, and whether that is enough."""
    lines = [
        [
            outcome.target.label,
            outcome.target.text,
            outcome.text,
            "reached" if outcome.reached else "**not reached**",
        ]
        for outcome in check(summary, comparison)
    ]
    return _table(["target", "bound", "found", ""], lines)


def medians_table(paths: Sequence[str], summary: Summary) -> str:
    """Medians with minimum and maximum, a column a path."""

    def cell(row: Row, path: str) -> str:
        if not (found := summary.get(row.figure, {}).get(path)):
            return "-"
        median, low, high = (f"{x:,.{row.digits}f}" for x in (found.median, found.low, found.high))
        return median if low == high else f"{median} ({low}..{high})"

    return _grouped(paths, summary, cell)


def ratios_table(paths: Sequence[str], summary: Summary, reference: str) -> str:
    """Ratios of medians to the reference, a column a path."""

    def cell(row: Row, path: str) -> str:
        found = ratio(summary, row.figure, path, reference)
        return "-" if found is None else f"{found:.2f}"

    return _grouped(paths, summary, cell)


def _grouped(paths: Sequence[str], summary: Summary, cell: Callable[[Row, str], str]) -> str:
    lines = []
    for title, rows in GROUPS.items():
        measured = [row for row in rows if row.figure in summary]
        if measured:
            lines.append([f"**{title}**", *("" for _ in paths)])
            lines += [[row.label, *(cell(row, path) for path in paths)] for row in measured]
    return _table(["", *paths], lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])
