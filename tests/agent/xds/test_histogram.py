"""Durations in buckets."""

from agent.xds.histogram import BOUNDS, Histogram


def test_each_bucket_counts_what_is_at_most_its_bound() -> None:
    histogram = Histogram()
    for seconds in (0.001, BOUNDS[0], 0.2, 99.0):
        histogram.observe(seconds)
    counts = dict(histogram.cumulative())
    assert (counts[BOUNDS[0]], counts[0.1], counts[0.25], counts[30.0], counts[float("inf")]) == (
        2,
        2,
        3,
        3,
        4,
    )
    assert histogram.sum == 99.0 + 0.2 + BOUNDS[0] + 0.001
