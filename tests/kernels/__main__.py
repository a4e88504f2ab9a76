"""Run the redirection's tests on Debian's kernels, emulated: `python -m tests.kernels [5.10 ...] [-- TESTS]`.

The machine's files are this machine's, read only. Kernels are Debian's packages, kept in build/kernels with
what each said the last time: VERSION.log. TESTS: files and options for pytest, in place of those listed here.
"""

import shlex
import subprocess
import sys
import time

from tests.kernels.console import follow
from tests.kernels.machine import REPOSITORY, machine, missing
from tests.kernels.packages import SUITES, fetch

BUILD = REPOSITORY / "build" / "kernels"
# Emulated, a machine is some 30 times slower: what opens many connections at once is left out.
TESTS = (
    "tests/bpf tests/agent/node/test_datapath.py tests/agent/node/test_routing.py "
    "tests/agent/node/test_cookie.py tests/agent/node/test_features.py tests/agent/node/test_redirect.py "
    "tests/agent/node/test_probes.py tests/agent/node/test_direct.py tests/agent/node/test_audit.py "
    "-k 'not nothing_is_left and not used_again and not many_short'"
)
# -v: the name of a test before it begins.
PYTEST = (
    "-m pytest -p no:cacheprovider -p tests.kernels.bounded -o addopts= --strict-markers --color=no "
    "-v -ra --durations=8"
)
BOUND = 240.0  # seconds, for each test's setup, call and teardown
SILENCE = 4 * BOUND  # after that a test does not even hear that its time is over


def main(arguments: list[str]) -> int:
    """Exit code 0 if the tests pass on every version, 1 if not, 2 if something is missing."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    versions, tests = arguments[:end] or list(SUITES), arguments[end + 1 :] or shlex.split(TESTS)
    if unknown := [version for version in versions if version not in SUITES]:
        print(f"{unknown[0]}: choose from {', '.join(SUITES)}", file=sys.stderr)
        return 2
    if absent := missing():
        print(f"missing: apt-get install {' '.join(absent)}", file=sys.stderr)
        return 2
    command = [sys.executable, *shlex.split(PYTEST), f"--bound={BOUND:g}", *tests]
    # Here it takes seconds to find that there are no such tests, and to compile all that they import.
    if code := subprocess.run([*command, "--collect-only", "-qqq"], cwd=REPOSITORY, check=False).returncode:
        return code
    problems = [_problem(version, command) for version in versions]
    return 1 if any(problems) else 0


def _problem(version: str, command: list[str]) -> str:
    kernel, log = BUILD / version, BUILD / f"{version}.log"
    if not kernel.is_dir():
        fetch(version, kernel)
    print(f"Linux {version}:", flush=True)
    began = time.monotonic()
    problem, counts = follow(machine(kernel, shlex.join(command)), log, SILENCE)
    took = time.monotonic() - began
    print(f"Linux {version}: {problem or 'all is well'}; {counts}; {took:.0f} s; {log}", flush=True)
    return problem


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
