"""What the authority tells Prometheus: under its own names, and those of istiod that people alert on."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime

from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agent.build import build
from agent.ca.backing import Backing
from agent.ca.errors import Reason, Refusal
from agent.ca.revocation import serials
from agent.ca.rotation import Phase
from agent.ca.signer import Signer

OK = "ok"
_RESULTS = (OK, *(reason.value for reason in Reason))
_CITADEL = "citadel_server_"
_CSR = (Reason.MALFORMED_REQUEST, Reason.BAD_SIGNATURE)
_NAME = (Reason.OTHER_NAME, Reason.NO_IDENTITY, Reason.MALFORMED_IDENTITY)
_SIGNING = (Reason.WEAK_KEY, Reason.BAD_VALIDITY, Reason.ROOT_UNKNOWN, Reason.CLOCK, Reason.INTERNAL)
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


class Figures:
    """Counts results, "ok" or a Reason's value."""

    def __init__(self) -> None:
        self.results = Counter(dict.fromkeys(_RESULTS, 0))

    def exposition(self, backing: Backing) -> str:
        """All figures, in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(PROCESS_COLLECTOR)
        registry.register(_Collector(self.results, backing))
        return generate_latest(registry).decode()


class _Collector(Collector):
    def __init__(self, results: Mapping[str, int], backing: Backing) -> None:
        self._results, self._backing = results, backing

    def collect(self) -> Iterator[Metric]:
        results, backing = self._results, self._backing
        yield build("warren-ca")
        requests = CounterMetricFamily(
            "warren_ca_requests", "Certificate requests by result.", labels=["result"]
        )
        for result, count in results.items():
            requests.add_metric([result], count)
        yield requests
        for name, (text, those) in _COUNTERS.items():
            yield _single(name, text, sum(results[result] for result in those))
        yield _states(
            "rotation",
            "1 for where the root's rotation is.",
            "phase",
            {phase.value: phase is backing.phase for phase in Phase},
        )
        troubles = {matter: bool(text) for matter, text in backing.troubles.items()}
        yield _states("trouble", "1 for what is wrong; the log says how.", "matter", troubles)
        if backing.clock and backing.clock.ahead is not None:
            text = "By how much this machine's clock is ahead of the API server's."
            yield GaugeMetricFamily(
                "warren_ca_clock_ahead_seconds", text, backing.clock.ahead.total_seconds()
            )
        with suppress(Refusal):
            yield from _of(backing.signer(), backing.now())
            text = "Certificates that are told to count no more."
            yield GaugeMetricFamily("warren_ca_revoked", text, len(serials(backing.crl())))


def _states(name: str, text: str, label: str, states: Mapping[str, bool]) -> Metric:
    family = GaugeMetricFamily(f"warren_ca_{name}", text, labels=[label])
    for state, there in states.items():
        family.add_metric([state], there)
    return family


def _of(signer: Signer, now: datetime) -> Iterator[Metric]:
    for what, end in {"root_cert": signer.root.not_valid_after_utc, "cert_chain": signer.not_after}.items():
        yield _single(f"{what}_expiry_timestamp", "When it ends, Unix time.", end.timestamp())
        yield _single(f"{what}_expiry_seconds", "Until it ends.", (end - now).total_seconds())


def _single(name: str, text: str, value: float) -> Metric:
    # Untyped: a counter would get "_total" behind its name, which istiod's have not.
    metric = Metric(_CITADEL + name, text, "unknown")
    metric.add_sample(_CITADEL + name, {}, value)
    return metric
