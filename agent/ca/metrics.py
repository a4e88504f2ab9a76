"""What the authority tells Prometheus: under its own names, and those of istiod that people alert on."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agent.ca.errors import Reason
from agent.ca.rotation import Phase
from agent.ca.signer import Signer

OK = "ok"
_RESULTS = (OK, *(reason.value for reason in Reason))
_CITADEL = "citadel_server_"
_CSR = (Reason.MALFORMED_REQUEST, Reason.BAD_SIGNATURE)
_NAME = (Reason.OTHER_NAME, Reason.NO_IDENTITY, Reason.MALFORMED_IDENTITY)
_SIGNING = (Reason.WEAK_KEY, Reason.BAD_VALIDITY, Reason.ROOT_UNKNOWN, Reason.INTERNAL)
_OTHER = (*_CSR, *_NAME, *_SIGNING, Reason.TOO_MANY)
# istiod's counters, by what they count of our results.
_COUNTERS: dict[str, tuple[str, Iterable[str]]] = {
    "csr_count": ("Requests.", _RESULTS),
    "success_cert_issuance_count": ("Certificates that were given.", [OK]),
    "authentication_failure_count": (
        "Requests of those who may not have what they ask for.",
        [reason.value for reason in Reason if reason not in _OTHER],
    ),
    "csr_parsing_err_count": ("Requests that cannot be read.", [reason.value for reason in _CSR]),
    "id_extraction_err_count": ("Requests for a name that is none.", [reason.value for reason in _NAME]),
    "csr_sign_err_count": ("Requests that could not be signed.", [reason.value for reason in _SIGNING]),
}


class Figures(Collector):
    """Counts results, "ok" or a Reason's value, and tells of the signer and the rotation."""

    def __init__(self) -> None:
        self.results = Counter(dict.fromkeys(_RESULTS, 0))
        self.signer: Signer | None = None
        self.phase = Phase.STEADY

    def exposition(self) -> str:
        """All figures, in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(PROCESS_COLLECTOR)
        registry.register(self)
        return generate_latest(registry).decode()

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "warren_ca_requests", "Certificate requests by result.", labels=["result"]
        )
        for result, count in self.results.items():
            requests.add_metric([result], count)
        yield requests
        for name, (text, results) in _COUNTERS.items():
            yield _single(name, text, sum(self.results[result] for result in results))
        rotation = GaugeMetricFamily(
            "warren_ca_rotation", "1 for where the root's rotation is.", labels=["phase"]
        )
        for phase in Phase:
            rotation.add_metric([phase.value], phase is self.phase)
        yield rotation
        if self.signer:
            yield from _expiry("root_cert", self.signer.root.not_valid_after_utc)
            yield from _expiry("cert_chain", self.signer.not_after)


def _expiry(what: str, end: datetime) -> Iterator[Metric]:
    yield _single(f"{what}_expiry_timestamp", "When it ends, Unix time.", end.timestamp())
    yield _single(f"{what}_expiry_seconds", "Until it ends.", (end - datetime.now(UTC)).total_seconds())


def _single(name: str, text: str, value: float) -> Metric:
    # Untyped: a counter would get "_total" behind its name, which istiod's have not.
    metric = Metric(_CITADEL + name, text, "unknown")
    metric.add_sample(_CITADEL + name, {}, value)
    return metric
