"""For `warren routes`: what happens to requests, and why."""

import asyncio
from http import HTTPStatus

import msgspec

from tunnel._core import Core
from protocols.web import JSON, Request, Response, Routes


class Question(msgspec.Struct, rename={"source": "from"}):
    """The body of POST /routes/explain: a request that a pod of this node might send."""

    source: str
    method: str
    url: str
    headers: list[tuple[str, str]] = []


def routes(core: Core) -> Routes:
    """To be had by this host only. What is asked wrongly is answered by 400, with what to ask instead."""

    async def in_force(request: Request) -> Response:
        try:
            return Response(await asyncio.to_thread(core.routes, request.query.get("service")), JSON)
        except ValueError as error:
            return _bad(error)

    async def explain(request: Request) -> Response:
        try:
            question = msgspec.json.decode(request.body, type=Question)
            arguments = (question.source, question.method, question.url, question.headers)
            return Response(await asyncio.to_thread(core.explain_route, *arguments), JSON)
        except ValueError as error:  # msgspec's errors are some
            return _bad(error)

    return {("GET", "/routes"): in_force, ("POST", "/routes/explain"): explain}


def _bad(error: ValueError) -> Response:
    return Response(f"{error}\n", status=HTTPStatus.BAD_REQUEST)
