"""The live map in a real Chromium: by keyboard and by ear, light and dark, and with 1,000 workloads."""

import math
import random
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from agent.dashboard.look import Edge, Event, Look
from tests.agent.dashboard.feeding import edge, large, workload
from tests.browser.chromium import asked, chromium, complaints
from tests.browser.serving import served
from tests.support.wait import until

SHOTS = Path(__file__).parents[2] / "build" / "browser"
MANY, FRAMES = 1000, 30


def _id(name: str, namespace: str = "default") -> str:
    return f"workload/{namespace}/{name}"


def _requests(source: str, destination: str, rate: float, milliseconds: float, **more: Any) -> Edge:
    at = rate * random.uniform(0.97, 1.03)
    bucket = round(10 * math.log(milliseconds))
    paths = {more.pop("path", "tunnel"): at}
    return edge(source, destination, requests=at, durations={bucket: at}, paths=paths, **more)


def shop() -> Look:
    """Bookinfo with a gateway, a database, a host outside, and a pod outside of the mesh that is refused."""
    gateway, page, ratings = _id("bookinfo-gateway", "ingress"), _id("productpage-v1"), _id("ratings-v1")
    names = ("productpage-v1", "details-v1", "reviews-v1", "reviews-v2", "reviews-v3", "ratings-v1")
    each = (
        workload("bookinfo-gateway", "ingress"), *(workload(name, "default") for name in names),
        workload("mysql", "db"), workload("legacy", "old", captured=False),
    )  # fmt: skip
    why = "plain text denied by PeerAuthentication default/default"
    edges = (
        _requests("outside", gateway, 20, 67, path="plain"),
        _requests(gateway, page, 20, 55, routes={"bookinfo": 20.0}, services={"productpage.default": 1.0}),
        _requests(page, _id("details-v1"), 20, 4.5),
        _requests(page, _id("reviews-v1"), 16, 11, routes={"reviews-80-20": 16.0}),
        _requests(page, _id("reviews-v2"), 4, 18, routes={"reviews-80-20": 4.0}),
        _requests(_id("reviews-v2"), ratings, 4, 3.7, path="direct"),
        _requests(_id("reviews-v3"), ratings, 0.5, 3.3, path="direct"),
        _requests(ratings, _id("mysql", "db"), 4.5, 2.5),
        edge(_id("legacy", "old"), ratings, connections=2.0, errors=2.0, denied=2.0, reasons={why: 2.0}),
        edge(_id("reviews-v1"), "service/api.example.com", connections=0.4, paths={"plain": 0.4}, open=3),
    )
    refused = Event(
        time.time(), _id("legacy", "old"), ratings, "old/legacy-x", "default/ratings-v1-x:9080",
        "connection", "refused", why, 0.4,
    )  # fmt: skip
    return Look("node1", 1.0, edges, (refused,), each, ())


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


@pytest.fixture
def page(browser: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """With the shop's map, which has an edge that is denied."""
    with served(shop) as link:
        asked(browser)
        browser.get(link)
        until(lambda: "legacy" in table(browser), what="the table")
        yield browser
        assert not [one for one in asked(browser) if not one.startswith((link, "data:", "chrome:"))]
        assert not complaints(browser)


def table(browser: webdriver.Chrome) -> str:
    return str(browser.find_element(By.ID, "table").text)


def press(browser: webdriver.Chrome, *keys: str) -> None:
    browser.switch_to.active_element.send_keys(*keys)


def focused(browser: webdriver.Chrome) -> str:
    found: str = browser.execute_script(
        "return document.activeElement.id || document.activeElement.className"
    )
    return found


def test_everything_can_be_reached_by_keyboard(page: webdriver.Chrome) -> None:
    page.find_element(By.ID, "canvas").send_keys("")
    detail = page.find_element(By.ID, "detail")
    press(page, "n")
    until(detail.is_displayed, what="the first edge")
    first = detail.text.splitlines()[1:3]
    press(page, "n")
    assert detail.text.splitlines()[1:3] != first
    press(page, Keys.ENTER)
    assert focused(page) == "close"
    press(page, Keys.ESCAPE)
    assert not detail.is_displayed() and focused(page) == "canvas"
    page.execute_script("document.getElementById('tab-edges').focus()")
    press(page, Keys.ARROW_RIGHT)
    assert focused(page) == "tab-workloads" and "not captured" in table(page)
    press(page, Keys.ARROW_LEFT)
    press(page, Keys.TAB)
    press(page, Keys.ENTER)
    until(lambda: "old/legacy" in detail.text, what="the edge that is denied is the first")
    assert "plain text denied by PeerAuthentication" in detail.text


def test_what_the_graph_shows_is_said_too(page: webdriver.Chrome) -> None:
    canvas = page.find_element(By.ID, "canvas")
    assert "11 parties and 10 edges, 1 of them with errors or denials" in str(
        canvas.get_attribute("aria-label")
    )
    alert = page.find_element(By.CSS_SELECTOR, "[role=alert]")
    assert "denied: old/legacy to default/ratings-v1" in str(alert.get_attribute("textContent"))
    for row in ("mTLS", "direct", "plain"):
        assert row in table(page)
    unnamed = page.execute_script(
        "return [...document.querySelectorAll('button,input,select,canvas')].filter(one => "
        "!(one.textContent.trim() || one.ariaLabel || one.labels?.length)).map(one => one.outerHTML)"
    )
    assert unnamed == []


def test_rates_are_those_that_were_told(page: webdriver.Chrome) -> None:
    def rates() -> dict[str, float]:
        edges = page.execute_script("return warrenMap.state.graph.edges")
        return {
            one["destination"]: one["requests"] for one in edges if one["source"].endswith("productpage-v1")
        }

    until(lambda: page.execute_script("return warrenMap.state.graph.seconds") > 4, what="some seconds")
    wanted = {"details-v1": 20, "reviews-v1": 16, "reviews-v2": 4}
    assert rates() == {_id(name): pytest.approx(rate, rel=0.3) for name, rate in wanted.items()}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_or_dark_as_the_system_is(page: webdriver.Chrome, scheme: str) -> None:
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    colour = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(16, 21, 22)") == (scheme == "dark")
    until(lambda: page.execute_script("return warrenMap.state.graph.seconds") > 3, what="figures")
    SHOTS.mkdir(parents=True, exist_ok=True)
    if scheme == "dark":
        page.find_element(By.CSS_SELECTOR, "#table button").click()
    page.save_screenshot(str(SHOTS / f"map-{scheme}.png"))
    page.execute_script("document.getElementById('theme').click(); document.getElementById('theme').click()")
    colour = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(16, 21, 22)", "chosen by hand"
    page.execute_script("localStorage.clear()")


def test_a_search_narrows_the_tables(page: webdriver.Chrome) -> None:
    page.find_element(By.ID, "find").send_keys("mysql")
    until(lambda: "1 edges" in table(page), what="one edge")
    page.find_element(By.ID, "find").send_keys(Keys.ESCAPE)


# Each for some seconds by the mouse, as a hand does it: what is on the way of its events counts, too.
HANDS = """
    const [seconds, done] = arguments, canvas = document.getElementById("canvas");
    const { x, y, width, height } = canvas.getBoundingClientRect();
    const send = (type, right, down, more) => {
      const at = { clientX: x + width / 2 + right, clientY: y + height / 2 + down, view: window };
      const Kind = type === "wheel" ? WheelEvent : MouseEvent;
      canvas.dispatchEvent(new Kind(type, { bubbles: true, cancelable: true, ...at, ...more }));
    };
    const round = (frame) => [Math.cos(frame / 20) * 150, Math.sin(frame / 30) * 80];
    const hands = {
      drag: (frame) => send("mousemove", ...round(frame), { buttons: 1 }),
      zoom: (frame) => send("wheel", ...round(frame), { deltaY: frame % 120 < 60 ? -12 : 12 }),
      hover: (frame) => send("mousemove", ...round(frame), { buttons: 0 }),
    };
    const during = (name) => new Promise((over) => {
      const times = [];
      if (name === "drag") send("mousedown", ...round(0), { buttons: 1, button: 0 });
      const next = (now) => {
        times.push(now);
        hands[name](times.length);
        if (now - times[0] < seconds * 1000) return requestAnimationFrame(next);
        if (name === "drag") send("mouseup", ...round(times.length), { button: 0 });
        over(times.slice(1).map((time, index) => time - times[index]));
      };
      requestAnimationFrame(next);
    });
    (async () => {
      const found = {};
      for (const name in hands) found[name] = await during(name);
      done(found);
    })();
"""


def test_a_thousand_workloads_move_fluently(browser: webdriver.Chrome) -> None:
    """While a new state comes each second: the frames that the browser shows."""
    whole, number = large(MANY), count()

    def look() -> Look:
        next(number)
        return whole

    with served(look) as link:
        browser.get(link)
        until(lambda: "2625 edges" in table(browser), what="the mesh")
        came, drawn = next(number), browser.execute_script("return warrenMap.view.frames")
        found: dict[str, list[float]] = browser.execute_async_script(HANDS, 4)
        assert next(number) - came > 6, "states came meanwhile"
        drawn = browser.execute_script("return warrenMap.view.frames") - drawn
    assert drawn > 8 * FRAMES, "the graph was dragged and zoomed"
    rates = {hand: 1e3 * len(waits) / sum(waits) for hand, waits in found.items()}
    for hand, waits in found.items():
        print(f"{hand}: {rates[hand]:.1f} frames a second, the longest took {max(waits):.0f} ms")
    assert min(rates.values()) > FRAMES, rates
