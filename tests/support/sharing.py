"""Which tests a worker of pytest-xdist gets together: those of a file, and those of a shared lab.

Long work begins first, so that no worker is left alone with it at the end.
"""

import re
from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadScopeScheduling

# What takes longest, from the longest; then all others.
_ORDER = (
    "tests/mesh/",
    "tests/agent/cli/test_lab.py",
    "tests/agent/cli/test_ca_cluster.py",
    "tests/bench/",
    "tests/agent/lab/",
    "tests/deploy/",
    "tests/soak/",
    "tests/routes/",
    "tests/agent/node/test_takeover.py",
    "tests/agent/node/test_kubelet.py",
    "tests/peers/",
    "tests/agent/cli/",
)
_SHARED_LAB = re.compile(r"^tests/mesh/.*[\[-](dir|kube)[\]-]")


class Sharing(LoadScopeScheduling):
    """As `--dist=loadfile`, but the tests of a shared lab (tests/mesh/conftest.py) are one unit of work."""

    def _split_scope(self, nodeid: str) -> str:
        lab = _SHARED_LAB.match(nodeid)
        return f"tests/mesh/{lab[1]}" if lab else nodeid.partition("::")[0]


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The tests of shared labs, then those of other labs, and so on; else as they are."""
    return sorted(items, key=lambda item: _rank(item.nodeid))


def _rank(nodeid: str) -> int:
    if _SHARED_LAB.match(nodeid):
        return -1
    return next((rank for rank, place in enumerate(_ORDER) if nodeid.startswith(place)), len(_ORDER))
