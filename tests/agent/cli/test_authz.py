"""`warren authz` where there is no answer, and in what words there is one. With real tunnels: tests/mesh."""

import asyncio
from pathlib import Path

import pytest

from agent import web
from agent.cli import main
from agent.cli.verdicts import reason, verdict
from protocols.admin import Outcome, Rule, Unmet
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


def outcome(verdict: str, policy: str | None = None, rule: int | None = None) -> Outcome:
    return Outcome(verdict, "the tunnel's words", policy, rule, None, None)


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
def test_verdicts_in_words(given: Outcome, text: str) -> None:
    assert verdict(given) == text


CLIENT = "cluster.local/ns/default/sa/client"
MANY = Unmet("ports", "8080", False, [str(port) for port in range(1, 9)], 2)


@pytest.mark.parametrize(
    ("unmet", "text"),
    [
        ([Unmet("principals", CLIENT, False, ["a/b"], 0)], f"principals: {CLIENT} is not a/b"),
        ([Unmet("principals", CLIENT, False, ["a", "*/b"], 0)], f"principals: {CLIENT} is none of a, */b"),
        ([Unmet("notPrincipals", CLIENT, True, ["*"], 0)], f"notPrincipals: {CLIENT} is *"),
        (
            [Unmet("principals", None, False, ["*"], 0)],
            "principals: plain text has no identity, which would have to be *",
        ),
        ([Unmet("namespaces", "a", True, ["a", "b"], 0)], "namespaces: a is one of a, b"),
        ([Unmet("ipBlocks", "10.0.0.1", False, ["10.0.0.2"], 0)], "ipBlocks: 10.0.0.1 is not in 10.0.0.2"),
        (
            [Unmet("ipBlocks", "10.0.0.1", False, ["11.0.0.0/8", "::/0"], 0)],
            "ipBlocks: 10.0.0.1 is in none of 11.0.0.0/8, ::/0",
        ),
        ([Unmet("notIpBlocks", "fd00::1", True, ["fd00::/8"], 0)], "notIpBlocks: fd00::1 is in fd00::/8"),
        ([MANY], "ports: 8080 is none of 1, 2, 3, 4, 5, 6, 7, 8, and 2 more"),
        (
            [Unmet("namespaces", "a", False, ["b"], 0), Unmet("ports", "80", False, ["81"], 0)],
            "namespaces: a is not b or ports: 80 is not 81",
        ),
        ([], "it never matches: what it asks for cannot be judged at L4, or is invalid"),
    ],
)
def test_reasons_in_words(unmet: list[Unmet], text: str) -> None:
    assert reason(Rule(False, unmet, "")) == text


def test_a_field_that_cannot_be_judged_is_named() -> None:
    assert reason(Rule(False, [], "methods")) == "it never matches: methods cannot be judged at L4"
