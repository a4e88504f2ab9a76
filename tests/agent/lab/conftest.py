import os
from collections.abc import Iterator

import pytest

from agent.lab import Lab


@pytest.fixture
def name() -> Iterator[str]:
    """A name for a lab of one test; what is left of that lab is taken away."""
    own = f"wt-lab-{os.getpid()}"
    yield own
    Lab.remove(own)


@pytest.fixture(scope="module")
def plain() -> Iterator[Lab]:
    """The default manifests' pods on two nodes, without the mesh."""
    with Lab.up(name=f"wt-plain-{os.getpid()}", meshed=False) as lab:
        yield lab


@pytest.fixture(scope="module")
def meshed() -> Iterator[Lab]:
    """The default manifests' pods on two nodes, with Warren."""
    with Lab.up(name=f"wt-meshed-{os.getpid()}") as lab:
        yield lab
