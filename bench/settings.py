"""What a user may choose."""

from dataclasses import dataclass
from pathlib import Path

NAMES = (
    *("none", "hops", "warren", "baseline", "envoy", "ztunnel"),
    *("none-node", "warren-node", "baseline-node", "envoy-node"),
)
"""The paths, in the order in which they are shown: between two nodes, and on one node."""
NEEDS = {"ztunnel": "ztunnel", "baseline": "baseline", "baseline-node": "baseline"}
"""The option without which a path cannot be."""


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    `paths` are some of NAMES, each measured in each of `rounds`. `ztunnel` is its binary, `baseline` another
    built checkout of Warren: needed for the paths of that name alone. Results go to `out`. With `quick` all
    is short and nobody waits for a quiet machine; else other programs get `patience` seconds in all to come
    to rest.
    """

    paths: tuple[str, ...]
    rounds: int
    ztunnel: Path | None
    baseline: Path | None
    out: Path
    quick: bool
    patience: float
