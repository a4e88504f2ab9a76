"""Compare the product with the reference on many random cases: `python -m tests.policy [COUNT [FIRST]]`."""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from random import Random

from tests.policy.cases import draw
from tests.policy.verdicts import build, core, disagreement

_SHARE = 2000  # cases of one process of the core


def _compare(program: Path, first: int) -> str:
    """The first disagreement among the seeds of a share."""
    with core(program) as verdicts:
        for seed in range(first, first + _SHARE):
            if found := disagreement(verdicts, draw(Random(seed))):
                return f"seed {seed}: {found}"
    return ""


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    begin = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        for found in workers.map(partial(_compare, build()), range(begin, begin + count, _SHARE)):
            if found:
                sys.exit(found)
    print(f"the compiled policies and the reference agree on {count} random sets of policies")


if __name__ == "__main__":
    main()
