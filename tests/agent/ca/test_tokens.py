"""The tokens file: read again when it changes, and nobody admitted while it cannot be used."""

import json
import os
from pathlib import Path

import pytest

from agent.ca.errors import AuthorityError, Reason, Refusal
from agent.ca.tokens import Tokens


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({"one": "node1"}))
    return path


def replace(path: Path, text: str) -> None:
    """As a careful writer does: the file is another one."""
    (path.parent / "new").write_text(text)
    os.rename(path.parent / "new", path)  # noqa: PTH104


def refused(tokens: Tokens, token: str) -> Reason:
    with pytest.raises(Refusal) as caught:
        tokens.node(token)
    return caught.value.reason


def test_a_token_stands_for_its_node(path: Path) -> None:
    tokens = Tokens(path)
    assert tokens.node("one") == "node1"
    for token in ("", "on", "onee", "two", "\u00e4"):
        assert refused(tokens, token) is Reason.UNKNOWN_TOKEN


def test_a_change_counts_at_once(path: Path) -> None:
    tokens = Tokens(path)
    replace(path, json.dumps({"two": "node2"}))
    assert tokens.node("two") == "node2"
    assert refused(tokens, "one") is Reason.UNKNOWN_TOKEN


def test_while_the_file_is_spoilt_nobody_is_admitted(path: Path) -> None:
    tokens = Tokens(path)
    replace(path, "{")
    assert refused(tokens, "one") is Reason.TOKENS_UNUSABLE
    path.unlink()
    assert refused(tokens, "one") is Reason.TOKENS_UNUSABLE
    replace(path, json.dumps({"one": "node1"}))
    assert tokens.node("one") == "node1"


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"": "node1"}', '{"a": ""}'])
def test_a_start_with_a_bad_file_fails(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(AuthorityError, match=r"tokens\.json"):
        Tokens(path)


def test_a_start_without_the_file_fails(tmp_path: Path) -> None:
    with pytest.raises(AuthorityError, match="tokens"):
        Tokens(tmp_path / "none.json")
