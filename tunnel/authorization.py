"""For `warren authz`: what policies say of connections, and what others would say."""

import asyncio
import json
from base64 import b64decode
from http import HTTPStatus

from protocols.web import JSON, Request, Response, Routes
from tunnel._core import Core

_Asked = tuple[str, str, list[tuple[str, str]]]  # method, path and header fields


def routes(core: Core) -> Routes:
    """To be had by this host only. What is asked wrongly is answered by 400, with what to ask instead."""

    async def explain(request: Request) -> Response:
        query = request.query
        try:
            port = _port(query["port"]) if "port" in query else None
            asked = _request(query["request"]) if "request" in query else None
            arguments = (query["from"], query["to"], port, query.get("address"), asked)
            return Response(await asyncio.to_thread(core.explain, *arguments), JSON)
        except KeyError as error:
            return _bad(f"{error.args[0]} is missing")
        except ValueError as error:
            return _bad(str(error))

    async def check(request: Request) -> Response:
        """The body: a JSON array of serialised DeltaDiscoveryResponses, each in base64."""
        try:
            pushes = [b64decode(text, validate=True) for text in json.loads(request.body)]
            return Response(await asyncio.to_thread(core.check, pushes), JSON)
        except (ValueError, TypeError) as error:
            return _bad(str(error))

    async def policies(_: Request) -> Response:
        return Response(await asyncio.to_thread(core.policies), JSON)

    return {
        ("GET", "/authz/explain"): explain,
        ("POST", "/authz/check"): check,
        ("GET", "/authz/policies"): policies,
    }


def _request(text: str) -> _Asked:
    """Raises ValueError."""
    match json.loads(text):
        case [str(method), str(path), list(headers)]:
            return method, path, [(str(name), str(value)) for name, value in headers]
    raise ValueError(f"request {text!r} is no list of a method, a path, and a list of header fields")


def _port(text: str) -> int:
    """Raises ValueError."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ValueError(f"port {text!r} is no number from 0 to 65535")
    return int(text)


def _bad(text: str) -> Response:
    return Response(f"{text}\n", status=HTTPStatus.BAD_REQUEST)
