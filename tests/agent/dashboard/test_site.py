"""Who may see the map, and what a browser is told: asked by a client that is none of ours."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from agent.dashboard.board import Board
from agent.dashboard.look import Look
from agent.dashboard.site import Site, kept_token, names_loopback
from agent.errors import SettingsError
from tests.agent.dashboard.feeding import denial, edge, workload
from tests.support.eventually import eventually
from tests.support.wait import PATIENCE

TOKEN = "t" * 43
A, B = "workload/shop/a", "workload/shop/b"


class Open:
    """A site that is served, with a client."""

    def __init__(self, board: Board, site: Site, client: aiohttp.ClientSession) -> None:
        self.board = board
        self.site = site
        self.client = client
        self.root = site.link.removesuffix(f"/{TOKEN}/")

    async def status(self, path: str, method: str = "GET", **headers: str) -> int:
        url = URL(f"{self.root}{path}", encoded=True)
        asked = self.client.request(method, url, headers=headers, allow_redirects=False)
        async with asked as answer:
            return answer.status


@pytest_asyncio.fixture
async def here() -> AsyncIterator[Open]:
    board = Board()
    site = Site(board, TOKEN)
    server = await site.serve(0)
    ticking = asyncio.create_task(site.run(0.05))
    async with aiohttp.ClientSession() as client:
        yield Open(board, site, client)
    ticking.cancel()
    server.close()


@pytest.mark.parametrize(
    "path", ["/", "/map.js", "/graph", "/events", f"/{TOKEN[:-1]}/", f"/{TOKEN}x/", "//", "/%C3%A9/"]
)
async def test_without_the_token_there_is_nothing(here: Open, path: str) -> None:
    assert await here.status(path) == 401


async def test_with_the_token_there_is_the_page(here: Open) -> None:
    for name in ("", "index.html", "map.js", "draw.js", "map.css", "d3.min.js", "icon.svg"):
        async with here.client.get(f"{here.site.link}{name}") as answer:
            assert answer.status == 200, name
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cache-Control"] == "no-store"
    assert await here.status(f"/{TOKEN}") == 303


@pytest.mark.parametrize("path", ["/d3.LICENSE", "/../site.py", "/%2e%2e/site.py", "/nothing"])
async def test_nothing_else_is_served(here: Open, path: str) -> None:
    assert await here.status(f"/{TOKEN}{path}") == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_it_is_read_only(here: Open, method: str) -> None:
    assert await here.status(f"/{TOKEN}/graph", method) == 405


async def test_a_name_that_leads_here_from_elsewhere_is_refused(here: Open) -> None:
    assert await here.status(f"/{TOKEN}/", Host="evil.example") == 421
    assert await here.status(f"/{TOKEN}/", Host="localhost:8080") == 200, "a port that somebody forwards"


@pytest.mark.parametrize(
    ("host", "ours"),
    [("127.0.0.1:15018", True), ("127.0.0.1", True), ("localhost", True), ("[::1]:80", True), ("[::1]", True),
     ("", False), ("10.0.0.1:15016", False), ("localhost.evil.example", False), ("127.0.0.1.x:80", False)],
)  # fmt: skip
def test_hosts(host: str, ours: bool) -> None:
    assert names_loopback(host) is ours


async def test_what_is_asked_wrongly_is_refused(here: Open) -> None:
    assert await here.status(f"/{TOKEN}/events?window=7") == 400
    assert await here.status(f"/{TOKEN}/graph?ago=x") == 400


async def test_events_are_pushed_as_they_come(here: Open) -> None:
    here.board.take(Look("node1", 1, (edge(A, B, requests=1),), workloads=(workload("a"), workload("b"))))
    async with here.client.get(f"{here.site.link}events?window=10") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        first = await _told(answer)
        assert {one["name"] for one in first["workloads"]} == {"a", "b"}
        here.board.take(Look("node1", 1, (edge(A, B, denied=1),), (denial(A, B),)))
        async with asyncio.timeout(PATIENCE):
            while not (told := await _told(answer))["edges"][0]["denied"]:
                assert told.get("workloads") is None, "they have been told"
        assert told["events"][0]["verdict"] == "refused"
        assert here.site.watched
    async with here.client.get(f"{here.site.link}records?source={A}&destination={B}") as answer:
        assert [one["verdict"] for one in await answer.json()] == ["refused"]


async def _told(answer: aiohttp.ClientResponse) -> dict[str, list[dict[str, str]]]:
    async with asyncio.timeout(PATIENCE):
        while not (line := await answer.content.readline()).startswith(b"data: "):
            pass
    told: dict[str, list[dict[str, str]]] = json.loads(line[6:])
    return told


async def test_a_page_that_was_closed_is_forgotten(here: Open) -> None:
    for _ in range(20):  # more than may be open at once
        async with here.client.get(f"{here.site.link}events?window=10") as answer:
            await _told(answer)
        await eventually(lambda: here.site._streams == 0)


async def test_pages_that_are_open_are_bounded(here: Open) -> None:
    answers = [await here.client.get(f"{here.site.link}events?window=10") for _ in range(16)]
    for answer in answers:
        await _told(answer)
    assert await here.status(f"/{TOKEN}/events?window=10") == 503
    for answer in answers:
        answer.close()


async def test_a_port_that_is_taken(here: Open) -> None:
    port = int(here.root.rpartition(":")[2])
    with pytest.raises(SettingsError, match=f"port {port} for the map"):
        await Site(Board(), TOKEN).serve(port)


def test_a_token_is_kept_for_root_alone(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.token"
    token = kept_token(path)
    assert len(token) >= 32 and kept_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("short")
    assert len(kept_token(path)) >= 32
