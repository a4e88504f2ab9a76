"""One line for each event, whatever is in it."""

import json
import logging
import re
from collections.abc import Iterator

import pytest

from agent import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def said(form: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    logs.configure("warning", form)
    log = logging.getLogger("agent.x")
    log.info("not this")
    log.warning("two\nlines of %s", "it")
    try:
        raise ValueError("inside")
    except ValueError:
        log.exception("it failed")
    return capsys.readouterr().err.splitlines()


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = said("text", capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\twarn\tagent.x\ttwo lines of it", first)
    assert second.endswith("Z\terror\tagent.x\tit failed: ValueError: inside")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (json.loads(line) for line in said("json", capsys))
    assert (first["level"], first["scope"], first["message"]) == ("warn", "agent.x", "two lines of it")
    assert second["message"] == "it failed: ValueError: inside"
    assert first["time"].endswith("Z")
