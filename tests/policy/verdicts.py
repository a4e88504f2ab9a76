"""What the product says: manifests through the agent's model to messages, and these to the tunnel's core."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, NamedTuple

from agent.model.engine.refusal import strictest
from agent.model.kinds import KINDS
from agent.model.model import Model, apply
from agent.model.resources import AUTHORIZATION
from agent.model.schema.objects import Object, key_of
from agent.sources import documents
from agent.sources.documents import Refused
from protocols.workload_pb2 import GRPC, HTTP2, HTTP11, Address
from tests.policy.cases import Case
from tests.policy.reference import Attempt, Expected, Manifest, judge

_CRATE = Path(__file__).parents[2] / "tunnel"
_NAME = "policy::tests::verdicts::of_questions"


class Told(NamedTuple):
    """verdict: as `Expected` has it, or "undecided"; then names of policies.

    connection: what is said before there is a request: the same, or "needs request".
    explained: for each policy its action, whether it is in dry run, and whether a rule of it matches.
    """

    verdict: str
    denied_by: str | None
    would_refuse: str | None
    audited: str | None
    explained: list[tuple[str, bool, bool]]
    connection: str


class Core:
    """The core's verdicts, asked of a process."""

    def __init__(self, questions: IO[str], answers: IO[str]) -> None:
        self._questions, self._answers = questions, answers

    def judge(self, manifests: Sequence[Manifest], attempts: Sequence[Attempt]) -> list[Told]:
        """Connections to the one pod among the manifests."""
        model = apply(Model(), [(key_of(item), item) for item in map(decode, manifests)])[0]
        resources = [one for those in model.resources.values() for one in those]
        pod = next(
            address.workload
            for address in (
                Address.FromString(one.body) for one in resources if one.type_url != AUTHORIZATION
            )
            if address.HasField("workload")
        )
        question = {
            "namespace": pod.namespace,
            "selected_by": [*pod.authorization_policies],
            "http_ports": sorted(
                {
                    port.target_port
                    for ports in pod.services.values()
                    for port in ports.ports
                    if port.app_protocol in (HTTP11, HTTP2, GRPC)
                }
            ),
            "policies": [(one.name, one.body.hex()) for one in resources if one.type_url == AUTHORIZATION],
            "attempts": [_asked(attempt) for attempt in attempts],
        }
        print(json.dumps(question), file=self._questions, flush=True)
        answers = next(line for line in self._answers if line.startswith("["))  # the harness says things, too
        return [Told(*answer) for answer in json.loads(answers)]


def build() -> Path:
    """The core's unit tests as the sources have them: one gives verdicts."""
    command = ["cargo", "test", "--quiet", "--profile", "checked", "--lib", "--no-run"]
    command += ["--message-format=json", "--manifest-path", str(_CRATE / "Cargo.toml")]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return next(Path(program) for one in told if (program := json.loads(one).get("executable")))


@contextmanager
def core(program: Path) -> Iterator[Core]:
    """A process that gives verdicts."""
    command = [str(program), "--quiet", "--nocapture", "--ignored", "--exact", _NAME]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        yield Core(process.stdin, process.stdout)
        process.communicate()  # the harness has the last word
        assert process.returncode == 0


def decode(manifest: Manifest) -> Object:
    """As a source does it; of what is refused the strictest reading."""
    kind = KINDS[manifest["kind"]]
    assert kind.struct
    key = documents.key_of(kind.name, dict(manifest))
    try:
        item: Object = documents.convert(manifest, kind.struct, key)
        return item
    except Refused as refused:
        held = strictest(kind, key, manifest, str(refused))
        assert held, refused
        return held


def disagreement(core: Core, case: Case) -> str:
    """What the product says otherwise than the reference; empty: they agree."""
    pod, *rest = case.manifests
    fits = pod["metadata"]["labels"]["app"] == "x"
    services = frozenset({"shop"} if fits else ())
    for attempt, told in zip(case.attempts, core.judge(case.manifests, case.attempts), strict=True):
        expected = judge(rest, pod, services, attempt)
        early = told.connection in (expected.verdict, "needs request")
        if not agree(expected, told) or _decided(told) != told.verdict or not early:
            manifests = "\n".join(json.dumps(manifest) for manifest in case.manifests)
            return f"{attempt}\nexpected {expected}\ntold {told}\n{manifests}"
    return ""


def agree(expected: Expected, told: Told) -> bool:
    """Whether they say the same; of several policies that could be named any will do."""
    return expected.verdict == told.verdict and all(
        _named(name) in names if names else name is None
        for name, names in (
            (told.denied_by, expected.denied_by),
            (told.would_refuse, expected.would_refuse),
            (told.audited, expected.audited),
        )
    )


def _decided(told: Told) -> str:
    """The verdict that follows from what is explained."""
    enforced = [(action, matches) for action, dry_run, matches in told.explained if not dry_run]
    if ("DENY", True) in enforced:
        return "denied"
    restricted = any(action == "ALLOW" for action, _ in enforced)
    return "allowed" if not restricted or ("ALLOW", True) in enforced else "not allowed"


def _named(name: str | None) -> str | None:
    """The policies that come from PeerAuthentication are one to the reference."""
    converted = name is not None and ("/istio_converted" in name or "/converted_peer_authentication_" in name)
    return "plain text" if converted else name


def _asked(attempt: Attempt) -> tuple[str | None, str, str, Any]:
    host = f"[{attempt.destination}]" if ":" in attempt.destination else attempt.destination
    identity = f"spiffe://{attempt.identity}" if attempt.identity else None
    request = attempt.request and asdict(attempt.request)
    return identity, attempt.source, f"{host}:{attempt.port}", request
