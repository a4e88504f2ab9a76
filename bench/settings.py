"""What a user may choose."""

from dataclasses import dataclass
from pathlib import Path

NAMES = ("none", "warren", "envoy", "ztunnel", "none-node", "warren-node", "envoy-node")
"""The paths, in the order in which they are shown: between two nodes, and on one node."""


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    `paths` are some of NAMES, each measured in each of `rounds`. `ztunnel` is its binary, needed for that
    path alone. Results go to `out`. With `quick` all is short and nobody waits for a quiet machine; else
    other programs get `patience` seconds in all to come to rest.
    """

    paths: tuple[str, ...]
    rounds: int
    ztunnel: Path | None
    out: Path
    quick: bool
    patience: float
