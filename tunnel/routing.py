"""For `warren routes`: what happens to requests, and why."""

import asyncio
import json
from http import HTTPStatus

from protocols.web import JSON, Request, Response, Routes
from tunnel._core import Core


def routes(core: Core) -> Routes:
    """To be had by this host only. What is asked wrongly is answered by 400, with what to ask instead."""

    async def in_force(request: Request) -> Response:
        try:
            return Response(await asyncio.to_thread(core.routes, request.query.get("service")), JSON)
        except ValueError as error:
            return _bad(str(error))

    async def listeners(_: Request) -> Response:
        try:
            return Response(await asyncio.to_thread(core.gateway_listeners), JSON)
        except ValueError as error:
            return _bad(str(error))

    async def explain(request: Request) -> Response:
        """The body: a JSON object with `from`, `method`, `url` and `headers`, a list of pairs."""
        try:
            given = json.loads(request.body)
            headers = [(name, value) for name, value in given.get("headers", ())]
            arguments = (given["from"], given["method"], given["url"], headers)
            return Response(await asyncio.to_thread(core.explain_route, *arguments), JSON)
        except KeyError as error:
            return _bad(f"{error.args[0]} is missing")
        except (ValueError, TypeError) as error:
            return _bad(str(error))

    return {
        ("GET", "/routes"): in_force,
        ("GET", "/listeners"): listeners,
        ("POST", "/routes/explain"): explain,
    }


def _bad(text: str) -> Response:
    return Response(f"{text}\n", status=HTTPStatus.BAD_REQUEST)
