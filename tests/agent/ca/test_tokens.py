"""The tokens file: read again when it changes, and nobody admitted while it cannot be used."""

import json
import os
from pathlib import Path

import pytest

from agent.ca.errors import AuthorityError, Reason, Refusal
from agent.ca.tokens import Caller, TokenFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({"one": "node1"}))
    return path


def replace(path: Path, text: str) -> None:
    """As a careful writer does: the file is another one."""
    (path.parent / "new").write_text(text)
    os.rename(path.parent / "new", path)  # noqa: PTH104


async def refused(tokens: TokenFile, token: str) -> Reason:
    with pytest.raises(Refusal) as caught:
        await tokens.caller(token, "")
    return caught.value.reason


async def test_a_token_stands_for_its_node(path: Path) -> None:
    tokens = TokenFile(path)
    assert await tokens.caller("one", "") == Caller("node1")
    for token in ("", "on", "onee", "two", "\u00e4"):
        assert await refused(tokens, token) is Reason.UNKNOWN_TOKEN


async def test_a_change_counts_at_once(path: Path) -> None:
    tokens = TokenFile(path)
    replace(path, json.dumps({"two": "node2"}))
    assert await tokens.caller("two", "") == Caller("node2")
    assert await refused(tokens, "one") is Reason.UNKNOWN_TOKEN


async def test_while_the_file_is_spoilt_nobody_is_admitted(path: Path) -> None:
    tokens = TokenFile(path)
    replace(path, "{")
    assert await refused(tokens, "one") is Reason.TOKENS_UNUSABLE
    path.unlink()  # noqa: ASYNC240
    assert await refused(tokens, "one") is Reason.TOKENS_UNUSABLE
    replace(path, json.dumps({"one": "node1"}))
    assert await tokens.caller("one", "") == Caller("node1")


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"": "node1"}', '{"a": ""}'])
def test_a_start_with_a_bad_file_fails(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(AuthorityError, match=r"tokens\.json"):
        TokenFile(path)


def test_a_start_without_the_file_fails(tmp_path: Path) -> None:
    with pytest.raises(AuthorityError, match="tokens"):
        TokenFile(tmp_path / "none.json")
