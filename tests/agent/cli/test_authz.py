"""`warren authz` where there is no answer, and in what words there is one. With real tunnels: tests/mesh."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent import web
from agent.cli import main
from agent.cli.verdicts import verdict
from tests.support.ports import free_port

NOWHERE = ("--tunnel", "http://127.0.0.1:1")
STATIC = "istio-system/istio_converted_static_strict"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["explain", "a", "b", *NOWHERE], "no tunnel answers at http://127.0.0.1:1: "),
        (["dry-run", *NOWHERE], "--tunnel names its admin port"),
        (["dry-run", "--tunnel", "nowhere"], "no tunnel answers at nowhere: unknown url type"),
        (["explain", "a"], "Missing argument 'TO'"),
        (["explain", "a", "b", "--port", "0"], "--port: 0 is not in the range"),
        (["explain", "a", "b", "--address", "home"], "--address: 'home' is not an IP address"),
        (["check"], "--filename is missing"),
        (["check", "-f", "/nope"], "'/nope': No such file or directory"),
        (
            ["check", "-f", "/dev/null", "--run-dir", "/nope"],
            "no agent answers at /nope/authz.sock: No such file",
        ),
    ],
)
def test_no_answer_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["authz", *arguments]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


async def test_what_answers_is_no_tunnel_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    server = await web.serve("127.0.0.1", port := free_port(), {})
    code = await asyncio.to_thread(main.run, ["authz", "dry-run", "--tunnel", f"http://127.0.0.1:{port}"])
    server.close()
    assert code == 2
    assert "is no tunnel of this version: HTTP Error 404" in capsys.readouterr().err


def test_help_says_the_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("explain", "check"):
        assert main.run(["authz", command, "--help"]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "Exit code 0 if" in said
        assert "2 if there is no answer" in said


def outcome(verdict: str, policy: str | None = None, rule: int | None = None) -> dict[str, Any]:
    return {"verdict": verdict, "policy": policy, "rule": rule, "text": "the tunnel's words"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (outcome("allowed", "a/b", 1), "allowed by AuthorizationPolicy a/b, rules[1]"),
        (outcome("allowed"), "allowed: no policy denies it, and none has the action ALLOW"),
        (outcome("policy_denied", "a/b", 0), "denied by AuthorizationPolicy a/b, rules[0]"),
        (outcome("policy_denied", STATIC, 0), "denied by PeerAuthentication (mode STRICT): it is plain text"),
        (
            outcome("policy_denied", "a/converted_peer_authentication_b", 0),
            "denied by PeerAuthentication a/b: it is plain text",
        ),
        (
            outcome("policy_not_allowed"),
            "not allowed: none of the policies with the action ALLOW matches",
        ),
        (outcome("policy_unknown"), "undecided: the tunnel's words"),
    ],
)
def test_verdicts_in_words(given: dict[str, Any], text: str) -> None:
    assert verdict(given) == text
