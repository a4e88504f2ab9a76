"""A command imports what it uses: at 3 a.m. nobody waits for libraries that are not needed."""

import subprocess
import sys

import pytest

from agent.cli.main import COMMANDS

HEAVY = (
    "grpc",
    "kubernetes",
    "cryptography",
    "google.protobuf",
    "pyroute2",
    "yaml",
    "agent.model",
    "agent.lab",
)
USED = {  # and what each may import of it
    "agent": {"agent.model"},
    "check": {"agent.model"},
    "crds": {*HEAVY},
    "lab": {*HEAVY},
    "reporter": {*HEAVY},
    "ca": {*HEAVY},
    "cni": {*HEAVY},
}
SCRIPT = """
import sys
from agent.cli.main import run
run([sys.argv[1], "--help"])
print(*sorted(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_imports_no_more_than_it_uses(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, command], capture_output=True, text=True, check=True
    )
    loaded = {name for name in HEAVY for module in done.stderr.split() if _is_in(module, name)}
    assert loaded <= USED.get(command, set()), loaded
    assert "Usage: warren" in done.stdout


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
