"""What is done over a path."""

import re
from pathlib import Path

from bench.errors import BenchError
from bench.l7.route import DOWNLOAD, HTTP, HTTP2
from bench.workloads import Values, Workload, read_wrk

CONNECTIONS = 64
_DOWNLOADS = 4


def workloads(seconds: int, folder: Path) -> list[Workload]:
    """Small requests of HTTP/1.1 and HTTP/2, and large answers; `folder` is for the clients' own logs."""

    def small(_: str, host: str, port: int) -> list[str]:
        options = ["-t", "2", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "--latency"]
        return ["wrk", *options, f"http://{host}:{port}/"]

    def unary(_: str, host: str, port: int) -> list[str]:
        log, url = folder / "h2load.log", f"http://{host}:{port}/index.html"
        body = folder / "body"
        body.write_bytes(b"\0\0\0\0\5hello")
        headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        options = [
            "-c",
            str(CONNECTIONS),
            "-m",
            "1",
            "-D",
            str(seconds),
            "--data",
            str(body),
            "--log-file",
            str(log),
        ]
        return ["sh", "-c", 'rm -f "$1"; shift; exec "$@"', "sh", str(log), "h2load", *options, *headers, url]

    def read_unary(text: str) -> tuple[Values, float]:
        return read_h2load(text, (folder / "h2load.log").read_text())

    def download(_: str, host: str, port: int) -> list[str]:
        url = f"http://{host}:{port}/"
        urls = [part for _ in range(_DOWNLOADS) for part in ("-o", "/dev/null", url)]
        return ["curl", "-sSf", *urls, "-w", "%{size_download} %{time_total}\n"]

    return [
        Workload("http1", HTTP, "1,000 requests", small, read_small),
        Workload("grpc", HTTP2, "1,000 requests", unary, read_unary),
        Workload("download", DOWNLOAD, "GB", download, read_curl),
    ]


def read_small(text: str) -> tuple[Values, float]:
    """As `read_wrk`; a unit of work is 1,000 requests."""
    values, units = read_wrk(text)
    return values, units * 10


def read_h2load(text: str, log: str) -> tuple[Values, float]:
    """Requests per second, p50 and p99 in us. Raises BenchError when requests failed.

    `log` has a line a request: when it began, its status, and the microseconds that it took.
    """
    found = re.search(r"requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed", text)
    rate = re.search(r"finished in [^,]+, ([\d.]+) req/s", text)
    if not found or not rate or not int(found[1]) or int(found[2]):
        raise BenchError(f"h2load: {' '.join(text.split())[-300:]}")
    took = sorted(int(line.split("\t")[2]) for line in log.splitlines())
    values = {"per_second": float(rate[1])}
    values |= {f"p{share}": float(took[len(took) * share // 100]) for share in (50, 99)}
    return values, int(found[1]) / 1000


def read_curl(text: str) -> tuple[Values, float]:
    """Gbit/s and gigabytes of downloads, one after the other."""
    sizes, times = zip(*(map(float, line.split()) for line in text.splitlines()), strict=True)
    return {"gbps": sum(sizes) * 8 / sum(times) / 1e9}, sum(sizes) / 1e9
