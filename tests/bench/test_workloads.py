"""What clients write is read rightly."""

import json

import pytest

from bench.errors import BenchError
from bench.workloads import read_beside, read_iperf, read_wrk, reader, workloads

WRK = """Running 2s test @ http://10.0.0.1:8080/
  2 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   472.85us  213.42us   3.32ms   72.04%
    Req/Sec    17.09k     1.10k   19.42k    68.29%
  Latency Distribution
     50%  456.00us
     75%  594.00us
     90%  727.00us
     99%    1.21ms
  69728 requests in 2.05s, 5.45MB read
{errors}Requests/sec:  33976.89
Transfer/sec:      2.66MB
"""


def test_wrk_gives_requests_and_percentiles_in_microseconds() -> None:
    values, units = read_wrk(WRK.format(errors=""))
    assert values == {"per_second": 33976.89, "p50": 456.0, "p99": 1210.0}
    assert units == 6.9728


@pytest.mark.parametrize(
    "text",
    [
        WRK.format(errors="  Socket errors: connect 0, read 3, write 0, timeout 0\n"),
        WRK.format(errors="  Non-2xx or 3xx responses: 12\n"),
        "unable to connect",
        "  0 requests in 2.00s\nRequests/sec:  0.00\n",
    ],
)
def test_wrk_that_failed_is_refused(text: str) -> None:
    with pytest.raises(BenchError, match="wrk"):
        read_wrk(text)


def test_iperf_counts_what_was_received() -> None:
    end = {
        "sum_received": {"bits_per_second": 12.5e9, "bytes": 3_000_000_000},
        "sum_sent": {"retransmits": 4, "bytes": 3_100_000_000},
    }
    assert read_iperf(json.dumps({"end": end})) == ({"gbps": 12.5, "retransmits": 4.0}, 3.0)


def test_iperf_that_failed_is_refused() -> None:
    with pytest.raises(BenchError, match="the server is busy"):
        read_iperf(json.dumps({"error": "the server is busy", "end": {}}))


def test_the_load_generator_counts_units_of_work() -> None:
    assert reader(10_000)('{"count": 25000, "p50": 30.5}') == ({"count": 25000, "p50": 30.5}, 2.5)


def test_flows_are_counted_beside_round_trips() -> None:
    text = '{"count": 900, "p50": 300.0, "p99": 900.0, "bytes": 1500000000, "gbps": 6.0}'
    assert read_beside(text) == ({"count": 900, "p50": 300.0, "p99": 900.0, "gbps": 6.0}, 1.5)


def test_quick_workloads_are_the_same_ones() -> None:
    assert [w.name for w in workloads(quick=True)] == [w.name for w in workloads(quick=False)]
    for workload in workloads(quick=True):
        assert any("10.0.0.1" in word for word in workload.command("load", "10.0.0.1", 80))
