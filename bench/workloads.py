"""What is done over a path: the client's command, the unit of work, and how to read the client's output."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from bench.errors import BenchError
from bench.path import ECHO, HTTP, IPERF, MIX

Values = dict[str, float]


@dataclass(frozen=True)
class Workload:
    """`command(load, host, port)` is the client's command line, `read` gives its figures and units of work.

    A `gated` client prints "ready" when warm, waits for a line on stdin, and reports CPU time as "cpu".
    `server` is the port that it talks to, `unit` says what one unit of work is.
    """

    name: str
    server: int
    unit: str
    command: Callable[[str, str, int], list[str]]
    read: Callable[[str], tuple[Values, float]]
    gated: bool = False


def workloads(quick: bool) -> list[Workload]:
    """Everything that is measured over each path, in order; `quick` keeps each short."""
    seconds = 1.0 if quick else 2.0
    bulk = 1 if quick else 3  # whole seconds: iperf3 takes no others

    def iperf(streams: int) -> Callable[[str, str, int], list[str]]:
        options = ["--time", str(bulk), "--parallel", str(streams), "--json"]
        return lambda _, host, port: ["iperf3", "--client", host, "--port", str(port), *options]

    def round_trips(load: str, host: str, port: int) -> list[str]:
        return [load, "rr", f"{host}:{port}", str(seconds), "64"]

    def connections(load: str, host: str, port: int) -> list[str]:
        # Bounded, so that the ports in TIME_WAIT never run out.
        return [load, "crr", f"{host}:{port}", str(seconds), "8000", "fin"]

    def beside(load: str, host: str, port: int) -> list[str]:
        return [load, "beside", f"{host}:{port}", str(seconds), "4"]

    def requests(_: str, host: str, port: int) -> list[str]:
        return [
            "wrk",
            "-t",
            "2",
            "-c",
            "16",
            "-d",
            f"{round(seconds)}s",
            "--latency",
            f"http://{host}:{port}/",
        ]

    return [
        Workload("stream1", IPERF, "GB", iperf(1), read_iperf),
        Workload("stream8", IPERF, "GB", iperf(8), read_iperf),
        Workload("round_trip", ECHO, "10,000 round trips", round_trips, reader(10_000), gated=True),
        Workload("connect", ECHO, "1,000 connections", connections, reader(1_000), gated=True),
        Workload("beside", MIX, "GB", beside, read_beside, gated=True),
        Workload("http", HTTP, "10,000 requests", requests, read_wrk),
    ]


def reader(unit: float) -> Callable[[str], tuple[Values, float]]:
    """Reads the load generator's JSON; `unit` operations are one unit of work."""

    def read(text: str) -> tuple[Values, float]:
        values: Values = json.loads(text)
        return values, values["count"] / unit

    return read


def read_beside(text: str) -> tuple[Values, float]:
    """Latencies of the round trips in us, Gbit/s and gigabytes of the flows beside them."""
    values: Values = json.loads(text)
    return values, values.pop("bytes") / 1e9


def read_iperf(text: str) -> tuple[Values, float]:
    """Gbit/s received and gigabytes, of iperf3's JSON. Raises BenchError when it reports an error."""
    report = json.loads(text)
    if error := report.get("error"):
        raise BenchError(f"iperf3: {error}")
    received = report["end"]["sum_received"]
    retransmits = float(report["end"]["sum_sent"].get("retransmits", 0))
    return {"gbps": received["bits_per_second"] / 1e9, "retransmits": retransmits}, received["bytes"] / 1e9


LATENCY_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


def read_wrk(text: str) -> tuple[Values, float]:
    """Requests per second, p50 and p99 in us, of wrk's report. Raises BenchError when requests failed."""
    if bad := re.search(r"(Non-2xx.*|Socket errors.*)", text):
        raise BenchError(f"wrk: {bad[1]}")
    rate, total = re.search(r"Requests/sec:\s+([\d.]+)", text), re.search(r"(\d+) requests in", text)
    if not rate or not total or not int(total[1]):
        raise BenchError(f"wrk did no request: {text.strip()[-200:]}")
    values = {"per_second": float(rate[1])}
    for share, value, unit in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)$", text, re.MULTILINE):
        values[f"p{share}"] = float(value) * LATENCY_UNITS[unit]
    return values, int(total[1]) / 10_000
