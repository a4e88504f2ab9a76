"""What a replica takes of each pod: in a cluster of 50,000 it is most of what there is."""

import tracemalloc

from bench.scale.cluster import Size
from bench.scale.replica import Replica
from tests.support.alone import alone

_MOST = 2_500  # bytes of each pod, with its part in a service of ten: 2,100, or 2,300 on a busy machine


def _taken(size: Size) -> float:
    """Bytes of each pod."""
    replica = Replica(size)
    tracemalloc.start()
    replica._read()
    return tracemalloc.get_traced_memory()[0] / size.pods


def test_a_pod_takes_little_of_a_replica() -> None:
    assert alone(_taken, Size(services=500, pods=5_000, nodes=100)) < _MOST
