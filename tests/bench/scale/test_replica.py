"""What a replica takes of each pod: in a cluster of 50,000 it is most of what there is."""

import tracemalloc

from bench.scale.cluster import Size
from bench.scale.replica import Replica

_MOST = 2_400  # bytes of each pod, with its part in a service of ten: 2,200 by Python 3.11


def test_a_pod_takes_little_of_a_replica() -> None:
    size = Size(services=500, pods=5_000, nodes=100)
    replica = Replica(size)
    tracemalloc.start()
    try:
        replica._read()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / size.pods < _MOST
