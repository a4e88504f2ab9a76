"""What policies mean by a request, slow and obvious; a part of the reference."""

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import unquote

_PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")


@dataclass(frozen=True)
class Request:
    """A request as a client sends it. remote: the client's address; claims: of a valid token, if any."""

    method: str
    host: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    remote: str = "10.9.9.9"
    claims: dict[str, Any] | None = field(default=None, hash=False)


def holds(name: str, values: Sequence[str], request: Request, wide: bool) -> bool | None:
    """Whether a field or key has one of the values; None: it is not about requests.

    wide: it is enough that one way of reading the request has one; else all have to.
    """
    readings = _readings(name, request, wide)
    if readings is None:
        return None
    fits: Callable[[str], bool] = lambda reading: any(_fits(name, reading, value) for value in values)  # noqa: E731
    return any(map(fits, readings)) if wide else bool(readings) and all(map(fits, readings))


def _readings(name: str, request: Request, wide: bool) -> list[str] | None:  # noqa: PLR0911
    claims = request.claims or {}
    match name.partition("[")[0]:
        case "methods":
            return [request.method]
        case "hosts":
            return [*_hosts(request.host.lower())] if wide else [request.host.lower()]
        case "paths":
            return [*dict.fromkeys(_paths(normal(request.path)))]
        case "remoteIpBlocks":
            return [request.remote]
        case "requestPrincipals" | "request.auth.principal":
            return [f"{claims['iss']}/{claims['sub']}"] if claims else []
        case "request.headers":
            wanted = name[len("request.headers[") : -1].lower()
            if wanted.startswith(":"):
                return None
            lines = [value for header, value in request.headers if header.lower() == wanted]
            return [*lines, ",".join(lines)] if lines else []
        case "request.auth.audiences":
            return _texts(claims, ["aud"], wide)
        case "request.auth.presenter":
            return _texts(claims, ["azp"], wide)
        case "request.auth.claims":
            return _texts(claims, name[len("request.auth.claims[") : -1].split("]["), wide)
    return None


def _texts(claims: Any, steps: list[str], wide: bool) -> list[str]:
    """Of a list any element counts, which `all` could not say: so it is one text that is made of them."""
    for step in steps:
        claims = claims.get(step) if isinstance(claims, dict) else None
    several = claims if isinstance(claims, list) else [claims]
    texts = [text for text in several if isinstance(text, str)]
    if steps in (["scope"], ["permission"]):
        texts += [word for text in texts for word in text.split()]
    return texts if wide or not texts else ["\0".join(texts)]


def _fits(name: str, reading: str, value: str) -> bool:
    if name == "remoteIpBlocks":
        network = ip_network(value, strict=False)
        return ip_address(reading).version == network.version and ip_address(reading) in network
    if name == "hosts":
        value = value.lower()
    if "{" in value:
        return _template(value.split("/"), reading.split("/"))
    return any(_like(one, value) for one in reading.split("\0"))


def _template(template: list[str], segments: list[str]) -> bool:
    if not template or not segments:
        return template == segments
    first, *rest = template
    if first == "{**}":
        return True
    return (segments[0] != "" if first == "{*}" else segments[0] == first) and _template(rest, segments[1:])


def _like(text: str, value: str) -> bool:
    if value.endswith("*"):
        return text.startswith(value[:-1])
    return text.endswith(value[1:]) if value.startswith("*") else text == value


def normal(path: str) -> str:
    """As it goes on to the application (pathNormalization BASE)."""
    parts = path.replace("\\", "/").split("%")
    text = parts[0]
    for part in parts[1:]:
        character = unquote(f"%{part[:2]}") if len(part) > 1 else "%"
        text += character + part[2:] if len(character) == 1 and character in _PLAIN else f"%{part}"
    kept: list[str] = []
    segments = text.split("/")[1:]
    for number, segment in enumerate(segments, 1):
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
        if segment in (".", "..") and number == len(segments):
            kept.append("")
    return "/" + "/".join(kept)


def _paths(path: str) -> Iterator[str]:
    """What else applications may take it for."""
    yield path
    while "//" in path:
        path = path.replace("//", "/")
    yield path
    for _ in range(3):
        path = unquote(path, errors="replace").replace("\\", "/")
        yield _resolved(path)
        yield _resolved("/".join(segment.partition(";")[0] for segment in path.split("/")))


def _resolved(path: str) -> str:
    directory = path.endswith(("/", "/.", "/.."))
    resolved = "/" + posixpath.normpath("/" + path).lstrip("/")
    return resolved if not directory or resolved == "/" else f"{resolved}/"


def _hosts(host: str) -> Iterator[str]:
    yield host
    bare = host[: host.rindex(":")] if ":" in host and host.rpartition(":")[2].isdigit() else host
    yield bare
    yield bare.removesuffix(".")
