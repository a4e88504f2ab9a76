"""`docs/checks.md`: each check of `warren check`. `make docs` writes it."""

from itertools import groupby
from pathlib import Path

from agent.cli.checks import CHECKS
from agent.cli.checks.check import Check

PAGE = Path(__file__).parents[2] / "docs" / "checks.md"
_HEAD = """<!-- Written by `make docs` from agent/cli/checks: edit there. -->
# What `warren check` looks at

`warren check` names what is wrong first, then what should be known (a note), each with what to do and its
place on this page; `-v` lists all checks, `--list` what is here. `warren check --before` does those that are
marked *before* on a machine where nothing is installed yet. With `--kubeconfig` the cluster is looked at,
too, with the rights of that user. What cannot be seen from where it runs is `unknown`, never well.
"""


def page() -> str:
    """All of it."""
    groups = groupby(CHECKS, lambda check: check.name.partition(".")[0])
    return _HEAD + "".join(f"\n## {name.capitalize()}\n{''.join(map(_entry, some))}" for name, some in groups)


def _entry(check: Check) -> str:
    kind = "wrong" if check.failing == "wrong" else "a note"
    before = ", *before*" if check.before else ""
    asks = check.asks[0].upper() + check.asks[1:]
    return f"\n### {check.name}\n{asks}. Else it is {kind}{before}.\n**To do:** {check.remedy}.\n"
