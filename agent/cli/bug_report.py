"""`warren bug-report`: all that agent, tunnel and kernel of this node say in one archive, without secrets."""

import io
import json
import os
import platform
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from agent.cli.admin_client import ask, ask_agent
from agent.cli.command import Command, option
from agent.cli.node import of_node
from agent.errors import WarrenError
from protocols.version import version

_AGENT = ("/pods", "/configuration", "/kernel", "/logging")
_TUNNEL = ("/version", "/check", "/config_dump", "/versions", "/connections", "/flows", "/routes")
_FURTHER = ("/authz/policies", "/logging")
_METRICS = {"agent": "http://127.0.0.1:15014/metrics", "tunnel": "http://127.0.0.1:15020/metrics"}
_FILES = ("/proc/version", "/proc/cmdline", "/proc/meminfo", "/proc/loadavg", "/etc/os-release")
_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # a bearer token (JWT)
    r"|(?<=://)[^/@\s\"]+:[^/@\s\"]+(?=@)",  # credentials in a URL
    re.DOTALL,
)
_QUERY = re.compile(r'("path": "[^"?]*)\?[^"]*')


@click.command("bug-report", cls=Command)
@option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar=None,
    help="where to write it [default: warren-HOST-TIME.tar.gz]",
)
@of_node
def bug_report(path: Path | None, run_dir: Path, tunnel: str) -> None:
    """Write all that this node's agent, tunnel and kernel say into one archive, for a bug report.

    Private keys, tokens, credentials in URLs and queries of requests are left out; names, addresses and
    identities are not. A part that does not answer is named in its place.

    \b
    Example: warren bug-report --file /tmp/node1.tar.gz
    """
    name = f"warren-{platform.node()}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    target = path or Path(f"{name}.tar.gz")
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for place, text in _contents(run_dir, tunnel):
            _add(archive, f"{name}/{place}", clean(text))
    click.echo(f"wrote {target}")


def clean(text: str) -> str:
    """Without what is secret."""
    return _QUERY.sub(r"\1?...", _SECRET.sub("(left out: secret)", text))


def _contents(run_dir: Path, tunnel: str) -> Iterator[tuple[str, str]]:
    yield "about.json", json.dumps({"version": version(), "kernel": platform.release(), "time": time.time()})
    for path in _AGENT:
        yield f"agent{path}.json", _said(partial(ask_agent, run_dir, path, msgspec.Raw))
    for path in (*_TUNNEL, *_FURTHER):
        yield f"tunnel{path}.json", _said(partial(ask, tunnel, path, msgspec.Raw))
    for part, url in _METRICS.items():
        yield f"{part}/metrics.txt", _fetched(url)
    for file in _FILES:
        yield f"host{file}", _read(Path(file))


def _said(question: Callable[[], Any]) -> str:
    try:
        return msgspec.json.format(bytes(question()), indent=1).decode()
    except WarrenError as error:
        return f"{error}\n"


def _fetched(url: str) -> str:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().read().decode()
    except (OSError, HTTPException) as error:
        return f"no answer at {url}: {error}\n"
    finally:
        connection.close()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        return f"{error}\n"


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode()
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(content), int(time.time()), 0o600
    archive.addfile(info, io.BytesIO(content))
