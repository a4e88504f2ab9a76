"""Give every parser of others' input what nobody would send.

    python -m tests.fuzz [--seconds 60] [--only frames]

Rust's targets are libFuzzer's, built as cargo-fuzz builds them, but by the stable compiler and without a
sanitizer: what is sought are panics, and what the targets state, in code without `unsafe`. Python's parsers
are protobuf and msgspec, both compiled, so that coverage would tell little: these are Hypothesis' tests.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build/fuzz"
CRATES = ("tunnel/fuzz", "cni/fuzz")
# Those of cargo-fuzz; for the target alone, hence --target.
_FLAGS = """
    --cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
"""
_ONE_INPUT = 5  # seconds, more is a failure
_PYTHON = "python"


def targets() -> dict[str, Path]:
    """The crate of each target in Rust."""
    return {
        file.stem: ROOT / crate
        for crate in CRATES
        for file in sorted((ROOT / crate).glob("fuzz_targets/*.rs"))
    }


@click.command()
@click.option("--seconds", default=60, show_default=True, help="For each target.")
@click.option("--only", default="", help="Some of the targets, with commas between them.")
def main(seconds: int, only: str) -> None:
    """Run each target for a time; status 1 when something was found."""
    known = {**targets(), _PYTHON: ROOT}
    chosen = [name.strip() for name in only.split(",")] if only else list(known)
    if unknown := [name for name in chosen if name not in known]:
        raise click.BadParameter(f"{unknown[0]} is none of {', '.join(known)}", param_hint="--only")
    folder = _build({known[name] for name in chosen if name != _PYTHON})
    failed = [name for name in chosen if not _run(name, known[name], folder, seconds)]
    sys.exit(f"found something: {', '.join(failed)}" if failed else 0)


def _build(crates: set[Path]) -> Path:
    """Build crates' targets; gives the folder in which they are."""
    told = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    host = next(line.removeprefix("host: ") for line in told.splitlines() if line.startswith("host: "))
    env = {**os.environ, "RUSTFLAGS": " ".join(_FLAGS.split())}
    for crate in crates:
        command = ["cargo", "build", "--release", "--quiet", "--target", host]
        command += ["--manifest-path", str(crate / "Cargo.toml"), "--target-dir", str(BUILD)]
        subprocess.run(command, env=env, check=True)
    return BUILD / host / "release"


def _run(name: str, crate: Path, folder: Path, seconds: int) -> bool:
    """Whether nothing was found; what is found lies in build/fuzz/found."""
    click.echo(f"{name}: {seconds} s")
    return _python(seconds) if name == _PYTHON else _rust(folder / name, crate / "corpus" / name, seconds)


def _rust(program: Path, corpus: Path, seconds: int) -> bool:
    # What is new goes into the first corpus, beside the build: the repository's stays as small as it is.
    grown, found = BUILD / "corpus" / program.name, BUILD / "found"
    for directory in (grown, found):
        directory.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-timeout={_ONE_INPUT}", "-max_len=65536", "-verbosity=0"]
    options += ["-print_final_stats=1", f"-artifact_prefix={found}/{program.name}-"]
    command = [str(program), *options, str(grown), str(corpus)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    tried = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    click.echo(f"  {int(tried[1]):,} inputs" if tried and not done.returncode else done.stderr)
    return done.returncode == 0


def _python(seconds: int) -> bool:
    """Other examples each time, until the time is over."""
    env = {**os.environ, "WARREN_FUZZ_EXAMPLES": "500"}
    command = [sys.executable, "-m", "pytest", "-q", "--show-capture=no", "tests/fuzz"]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if subprocess.run(command, env=env, cwd=ROOT, check=False).returncode:
            return False
    return True


if __name__ == "__main__":
    main()
