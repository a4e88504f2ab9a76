"""`istio_build`, which tells dashboards what runs."""

from prometheus_client.core import GaugeMetricFamily, Metric

from protocols.version import version


def build(component: str) -> Metric:
    """The metric of one part, such as `warren-agent`."""
    family = GaugeMetricFamily("istio_build", "Istio component build info", labels=["component", "tag"])
    family.add_metric([component, version()], 1)
    return family
