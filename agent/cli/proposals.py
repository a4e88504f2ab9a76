"""Questions about policies to the agent, at its socket for them."""

from pathlib import Path
from socket import AF_UNIX, SHUT_WR, socket
from typing import TypeVar

import msgspec

from agent.cli.admin_client import NoAgent
from protocols.proposal import File, Proposal, Whose

_ANSWER = 60.0  # seconds: a policy may concern all pods of a large mesh
T = TypeVar("T")


def ask(path: Path, files: list[File]) -> Proposal:
    """What the agent makes of files. Raises NoAgent."""
    return _ask(path, files, Proposal)


def deciding(path: Path, pod: Whose) -> str:
    """The PeerAuthentication that decides for a pod, as `namespace/name`; empty: none. Raises NoAgent."""
    return _ask(path, pod, str)


def _ask(path: Path, question: list[File] | Whose, kind: type[T]) -> T:
    remedy = "start the agent and wait until it is ready, or name its --run-dir"
    try:
        with socket(AF_UNIX) as connection:
            connection.settimeout(_ANSWER)
            connection.connect(str(path))
            connection.sendall(msgspec.json.encode(question))
            connection.shutdown(SHUT_WR)
            with connection.makefile("rb") as answer:
                return msgspec.json.decode(answer.read(), type=kind)
    except OSError as error:
        raise NoAgent(f"no agent answers at {path}: {error.strerror or error}; {remedy}") from error
    except msgspec.MsgspecError as error:
        raise NoAgent(f"the agent at {path} is of another version than this program: {error}") from error
