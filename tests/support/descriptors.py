"""Descriptors that this process holds."""

import os
from pathlib import Path


def network_namespaces() -> int:
    """How many of its descriptors are of network namespaces."""
    held = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            held += os.readlink(entry).startswith("net:[")  # noqa: PTH115 - there is no such file
        except FileNotFoundError:  # closed meanwhile, by another thread
            continue
    return held
