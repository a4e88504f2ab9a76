"""Descriptors that this process holds."""

import os
from contextlib import suppress
from pathlib import Path

from agent.node.netns import NetnsFd


def held(netns: NetnsFd) -> int:
    """How many are of the namespace: of this one alone, as those of other tests may be closed meanwhile."""
    wanted, found = os.fstat(netns.fileno()), 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile, by another thread
            found += os.path.samestat(os.fstat(int(descriptor.name)), wanted)
    return found
