"""For `warren why`, `flows`, `log`: what would become of connections, what became of them, what is logged."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from protocols.log_level import level, set_level
from protocols.web import JSON, Request, Response, Routes
from tunnel._core import Core
from tunnel.xds import TYPES, XdsClient

log = logging.getLogger("warren.tunnel")
_END = 2**64 - 1


def routes(core: Core, xds: XdsClient) -> Routes:
    """To be had by this host only. What is asked wrongly is answered by 400, with what to ask instead."""

    async def why(request: Request) -> Response:
        """The body: a JSON object with `from` and `to`, and maybe `port`, `method`, `path`, `headers`."""
        given = json.loads(request.body)
        headers = [(name, value) for name, value in given.get("headers", ())]
        further = {name: given[name] for name in ("port", "method", "path") if given.get(name) is not None}
        answer = await asyncio.to_thread(
            core.why, source=given["from"], to=given["to"], headers=headers, **further
        )
        return Response(answer, JSON)

    async def flows(request: Request) -> Response:
        """after: a number, or `end` for none, and only the number of the last."""
        after = request.query.get("after", "0")
        return Response(await asyncio.to_thread(core.recent, _END if after == "end" else int(after)), JSON)

    async def versions(_: Request) -> Response:
        return Response(json.dumps(await asyncio.to_thread(_versions, core, xds)), JSON)

    async def logging_(_: Request) -> Response:
        return _logging(core)

    async def set_logging(request: Request) -> Response:
        if wanted := request.query.get("level"):
            set_level(wanted)
        if access_log := request.query.get("access_log"):
            core.access_log(access_log)
        log.warning("log level is now %s, the access log %s", level(), core.access_log())
        return _logging(core)

    return {
        ("POST", "/why"): _refusing(why),
        ("GET", "/flows"): _refusing(flows),
        ("GET", "/versions"): versions,
        ("GET", "/logging"): logging_,
        ("POST", "/logging"): _refusing(set_logging),
    }


def _versions(core: Core, xds: XdsClient) -> dict[str, object]:
    held = {url: core.versions(url) for url in TYPES}
    return {"on_demand": xds.on_demand, "ages": xds.ages(), "versions": held}


def _logging(core: Core) -> Response:
    return Response(json.dumps({"level": level(), "access_log": core.access_log()}), JSON)


def _refusing(
    handle: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def refusing(request: Request) -> Response:
        try:
            return await handle(request)
        except KeyError as error:
            return Response(f"{error.args[0]} is missing\n", status=HTTPStatus.BAD_REQUEST)
        except (ValueError, TypeError, OverflowError) as error:
            return Response(f"{error}\n", status=HTTPStatus.BAD_REQUEST)

    return refusing
