"""Clients: programs that run in the foreground of a measurement."""

import json
import selectors
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError
from bench.path import DataPath
from bench.pods import inside

TIMEOUT = 60.0
"""Seconds after which a client that has not come to its end is stopped."""

Client = subprocess.Popen[str]


@contextmanager
def client(argv: Sequence[str]) -> Iterator[Client]:
    """Start a client; whatever happens, it has ended afterwards."""
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_ready(process: Client, timeout: float = TIMEOUT) -> None:
    """Wait for the line that says that a gated client is warm."""
    assert process.stdout
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        said = ready.select(timeout)
    if not said:
        raise BenchError(f"{_name(process)}: not ready within {timeout:.0f} s")
    if process.stdout.readline() != "ready\n":
        finish(process)
        raise BenchError(f"{_name(process)}: ended before it was ready")


def go(process: Client) -> None:
    """Let a gated client begin, which goes on by itself."""
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def finish(process: Client, text: str = "", within: float = TIMEOUT) -> str:
    """Send `text` and wait for the end; returns the output. Raises BenchError when the client failed."""
    try:
        output, errors = process.communicate(text, timeout=within)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{_name(process)}: not finished within {within:.0f} s") from None
    if process.returncode:
        raise BenchError(f"{_name(process)}: {(errors or output).strip()[-300:]}")
    return output


@contextmanager
def held(load: Path, path: DataPath, port: int, count: int) -> Iterator[None]:
    """Hold `count` idle connections to a server's `port`.

    Raises BenchError when not all can be opened, or when one does not answer any more afterwards.
    """
    with client(inside(load, path.client, [str(load), "idle", _address(path, port), str(count)])) as process:
        wait_ready(process)
        yield
        alive = json.loads(finish(process, "\n"))["alive"]
    if alive != count:
        raise BenchError(f"{path.name}: {count - alive} of {count} idle connections were lost")


def connect(load: Path, path: DataPath, port: int) -> None:
    """Connect to a server's `port`, and say nothing. Raises BenchError when that fails."""
    program = f"import socket; socket.create_connection({path.address(port)!r}, 5).close()"
    with client(inside(load, path.client, [sys.executable, "-c", program])) as process:
        finish(process)


def try_once(load: Path, path: DataPath, port: int) -> str:
    """A few connections to a server's `port`, a byte each way on each; returns why that failed, or ""."""
    argv = inside(load, path.client, [str(load), "crr", _address(path, port), "1", "1", "fin"])
    try:
        with client(argv) as process:
            finish(process)
    except BenchError as error:
        return str(error)
    return ""


def _address(path: DataPath, port: int) -> str:
    host, reached = path.address(port)
    return f"{host}:{reached}"


def _name(process: Client) -> str:
    """The program and what it does, without the words that put it into its pod."""
    assert isinstance(process.args, list)
    program = process.args[process.args.index("enter") + 4 :]
    return " ".join([Path(program[0]).name, *program[1:3]])
