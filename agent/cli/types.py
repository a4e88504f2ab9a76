"""Values of options that need more than a look: functions that say what would be right."""

from ipaddress import IPv4Address, IPv6Address
from ipaddress import ip_address as parse_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from click import BadParameter, Choice, Context, IntRange, Parameter, ParamType
from click import Path as PathType

LOG_LEVELS = Choice(["debug", "info", "warning", "error"])
LOG_FORMATS = Choice(["text", "json"])
READABLE_FILE = PathType(exists=True, dir_okay=False, readable=True, path_type=Path)
FOLDER = PathType(file_okay=False, path_type=Path)
SOCKET = PathType(dir_okay=False, path_type=Path)
PORT = IntRange(0, 65535)


def group(text: str) -> int:
    """A group of this machine by name, or any by number: its number."""
    import grp  # noqa: PLC0415  (nobody else needs it)

    try:
        return int(text) if text.isdigit() else grp.getgrnam(text).gr_gid
    except KeyError as error:
        raise BadParameter(f"there is no group {text!r}: make it, or give a number") from error


def ip_port(text: str) -> tuple[IPv4Address | IPv6Address, int]:
    """`10.0.0.1:15012` or `[fd00::1]:15012`."""
    host, _, port = text.rpartition(":")
    try:
        address = parse_address(host.removeprefix("[").removesuffix("]"))
        bracketed = f"[{address}]" if address.version == 6 else str(address)
        if host.lower() == bracketed and int(port) in range(65536):
            return address, int(port)
    except ValueError:
        pass
    raise BadParameter(f"{text!r} is not IP:PORT, such as 127.0.0.1:15012 or [::1]:15012")


def ip_address(text: str) -> str:
    """An IPv4 or IPv6 address."""
    try:
        return str(parse_address(text))
    except ValueError as error:
        raise BadParameter(f"{text!r} is not an IP address") from error


def https_url(text: str) -> str:
    """`https://HOST:PORT`, without a path."""
    try:
        parts = urlsplit(text)
        if parts.hostname and parts.port and text == f"https://{parts.netloc}" and "@" not in text:
            return text
    except ValueError:
        pass
    raise BadParameter(f"{text!r} is not https://HOST:PORT")


def unix_or_https_url(text: str) -> str:
    """`unix:PATH` or `https://HOST:PORT`."""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return text
    try:
        return https_url(text)
    except BadParameter as error:
        raise BadParameter(f"{text!r} is not unix:PATH or https://HOST:PORT") from error


def daemon_set(text: str) -> str:
    """`NAMESPACE/NAME`, or nothing."""
    if text and not all(len(text.split("/")) == 2 and part for part in text.split("/")):
        raise BadParameter(f"{text!r} is not NAMESPACE/NAME, such as warren-system/warren-node")
    return text


def source(text: str) -> Path | Literal["kube"]:
    """`kube`, or `dir:PATH`: the path."""
    if text == "kube":
        return "kube"
    kind, _, path = text.partition(":")
    if kind != "dir" or not path:
        raise BadParameter(f"{text!r} is not kube (an API server) or dir:PATH (a folder of manifests)")
    if not Path(path).is_dir():
        raise BadParameter(f"{path} is not a folder: make it first")
    return Path(path)


class _Header(ParamType[tuple[str, str]]):
    """NAME: VALUE, as curl takes it."""

    name = "name: value"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> tuple[str, str]:
        name, colon, text = str(value).partition(":")
        if not colon or not name.strip():
            self.fail(f"{value!r} is no header, such as 'end-user: jason'", param, ctx)
        return name.strip(), text.strip()


HEADER = _Header()


def destination(text: str) -> tuple[str, int | None]:
    """`HOST`, `HOST:PORT`, an address, `[fd00::1]:PORT`: host and port."""
    try:
        return str(parse_address(text)), None
    except ValueError:
        pass
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, ""
    if not host or "://" in text or (port and not (port.isdigit() and 0 < int(port) < 65536)):
        raise BadParameter(f"{text!r} is not HOST[:PORT], such as web:80, 10.0.0.1:80 or [fd00::1]:80")
    return host.removeprefix("[").removesuffix("]"), int(port) if port else None


def duration(text: str) -> float:
    """`30s`, `5m`, `1h`, `2d`, or seconds: seconds."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        return float(number) * units[unit]
    except ValueError as error:
        raise BadParameter(f"{text!r} is no time, such as 30s, 5m or 1h") from error
