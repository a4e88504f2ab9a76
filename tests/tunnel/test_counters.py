from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tunnel.counters import Counters, Metric


def test_a_scraper_reads_what_was_counted() -> None:
    counters = Counters()
    counters.xds_ends.add("Error")
    counters.xds_ends.add("Error", by=2)
    counters.xds_connected.set(1)
    counters.certificate_ends.set(1795251872, 'odd "one"\n\\')
    text = "\n".join([*counters.lines(), "# EOF\n"])
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
    assert samples["istio_xds_connection_terminations_total", "Error"] == 3
    assert samples["warren_xds_connected",] == 1
    assert samples["warren_certificate_expiry_seconds", 'odd "one"\n\\'] == 1795251872


def test_what_is_removed_is_not_shown() -> None:
    metric = Metric("a", "gauge", "A.", ("b",))
    metric.set(1, "c")
    metric.remove("c")
    metric.remove("never there")
    assert list(metric.lines()) == ["# HELP a A.", "# TYPE a gauge"]
