"""What a tunnel's core answers at the admin port, in JSON, and the CLI reads. The rest is in `report`.

Explanations are data; `agent.cli.verdicts` makes the words. The core has structs with the same fields
(tunnel/src/policy/explain.rs, tunnel/src/engine/), and a test holds both against each other.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Party:
    """Who asks, or is asked. name: `namespace/name` of a known workload; identity: None in plain text.

    address: None where none was given and none is known.
    """

    name: str | None
    address: str | None
    identity: str | None = None


@dataclass(frozen=True)
class Assumed:
    """What a question left open. default_namespace: names that were looked up in the namespace `default`.

    service: `namespace/name` of the Service that was asked for, in whose place one of its pods stands.
    no_address: the source's address is unknown, so that no rule with ipBlocks can match.
    """

    default_namespace: list[str]
    service: str | None
    no_address: bool


@dataclass(frozen=True)
class Unmet:
    """A condition of a rule that does not hold. field: as policies name it (`principals`, `notPorts`, ...).

    found: what the connection or request has there, None: nothing, as plain text has no identity.
    negated: it must be none of the values, and is. values: the first of them; more: how many are left out.
    """

    field: str
    found: str | None
    negated: bool
    values: list[str]
    more: int


@dataclass(frozen=True)
class Rule:
    """A rule, by its place in the policy. unjudged: its fields that cannot be judged here, with commas.

    depends_on_request: it matches as far as the connection goes, and no request was given.

    unmet: of its first clause that does not hold, each way in which it could have held; none where nothing
    could have made it match.
    """

    matches: bool
    unmet: list[Unmet]
    unjudged: str
    depends_on_request: bool = False


@dataclass(frozen=True)
class Policy:
    """A policy that applies to the workload. refused: why it is not in force as written; empty: it is."""

    name: str
    action: str
    dry_run: bool
    refused: str
    rules: list[Rule]


@dataclass(frozen=True)
class Outcome:
    """A verdict: `allowed`, `needs_request`, or a refusal's name, which `text` explains as the log does.

    policy, rule: those that decide. would_refuse, audited: the policy in dry run that would have refused it,
    and the AUDIT policy that matches.
    """

    verdict: str
    text: str
    policy: str | None
    rule: int | None
    would_refuse: str | None
    audited: str | None


@dataclass(frozen=True)
class Port(Outcome):
    """What becomes of a connection to a port of the pod. missing: policies that have not been received."""

    port: int
    policies: list[Policy]
    missing: list[str]


@dataclass(frozen=True)
class Explanation:
    """GET /authz/explain."""

    source: Party
    destination: Party
    assumed: Assumed
    ports: list[Port]


@dataclass(frozen=True)
class Judged(Outcome):
    """POST /authz/check: what would become of an open connection. connection: its access log record."""

    closed: bool
    connection: dict[str, Any]


@dataclass(frozen=True)
class PolicyCount:
    """GET /authz/policies: a policy in force, and how often it has given each verdict."""

    name: str
    action: str
    dry_run: bool
    verdicts: dict[str, int]


@dataclass(frozen=True)
class HeldWorkload:
    """GET /config_dump: a workload of the mesh. tunnel: HBONE if it is captured, else PLAIN."""

    uid: str
    namespace: str
    name: str
    workload: str
    identity: str
    addresses: list[str]
    node: str
    tunnel: str
    waypoint: bool
    healthy: bool
    services: list[str]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class HeldService:
    """GET /config_dump: a service. key: `namespace/hostname`; ports: the service's and the pods'.

    routed_ports: those with rules for requests or connections. healthy: of so many endpoints.
    """

    key: str
    name: str
    addresses: list[str]
    ports: list[tuple[int, int]]
    routed_ports: list[int]
    waypoint: bool
    healthy: int
    endpoints: int


@dataclass(frozen=True)
class HeldPolicy:
    """GET /config_dump: a policy in force. scope: mesh, namespace or selector.

    refused: why its object is not in force as written, empty if it is.
    """

    name: str
    action: str
    scope: str
    rules: int
    dry_run: bool
    refused: str


@dataclass(frozen=True)
class CertificateFacts:
    """What a certificate says of itself. Times are Unix seconds; serial: hexadecimal, with colons."""

    subject: str
    issuer: str
    serial: str
    not_before: int
    not_after: int


@dataclass(frozen=True)
class HeldCertificate:
    """GET /config_dump: the certificate of an identity. chain: the leaf first; roots: those believed."""

    identity: str
    not_after: int
    chain: list[CertificateFacts]
    roots: list[CertificateFacts]


@dataclass(frozen=True)
class Dump:
    """GET /config_dump: the configuration in force. pods: uids of those that are served.

    traffic: what may leave the mesh, by namespace; names: the addresses of endpoints' names; direct, crl,
    telemetry (what is told of whose traffic): as they are, for a dump only.
    """

    direct: Any
    workloads: list[HeldWorkload]
    services: list[HeldService]
    policies: list[HeldPolicy]
    traffic: list[dict[str, str]]
    telemetry: list[Any]
    names: dict[str, list[str]]
    crl: dict[str, Any]
    certificates: list[HeldCertificate]
    pods: list[str]


@dataclass(frozen=True)
class Flows:
    """GET /flows: connections and requests that have ended, by their records in the access log.

    last: the number of the last one, to be asked for what comes after it.
    """

    last: int
    flows: list[dict[str, Any]]


@dataclass(frozen=True)
class WhySource:
    """Who connects. served: it is captured, and this tunnel serves it; certificate_until: Unix seconds."""

    name: str
    identity: str
    addresses: list[str]
    served: bool
    certificate_until: int | None


@dataclass(frozen=True)
class WhyDestination:
    """What was asked for. kind: service, pod, address, or outside (nothing of this name in the mesh)."""

    asked: str
    kind: str
    name: str
    addresses: list[str]


@dataclass(frozen=True)
class WhyEndpoint:
    """An endpoint that may be chosen. used: now, and not only once nearer ones are gone.

    path: tunnel, direct or plain. policy: of connections to it, None where none is enforced there.
    policies_known: it is of this node; of another one's only what this tunnel was sent is known.
    """

    name: str
    address: str
    node: str
    identity: str
    path: str
    used: bool
    verdict: str
    text: str
    policy: Port | None
    policies_known: bool


@dataclass(frozen=True)
class WhyPort:
    """What becomes of connections to a port. verdict: allowed, depends, or a refusal's name, as `text` says.

    path: tunnel, direct, plain, requests (each its own way), empty where it goes nowhere. not_direct: why not
    past the tunnel. routes: as POST /routes/explain, None where no rules apply.
    """

    port: int
    address: str | None
    verdict: str
    text: str
    path: str
    not_direct: str
    waypoint: bool
    routes: dict[str, Any] | None
    endpoints: list[WhyEndpoint]


@dataclass(frozen=True)
class Why:
    """POST /why."""

    source: WhySource
    destination: WhyDestination
    ports: list[WhyPort]


@dataclass(frozen=True)
class Logging:
    """GET, POST /logging. level: debug, info, warning or error; access_log: off, errors or all."""

    level: str
    access_log: str


@dataclass(frozen=True)
class Versions:
    """GET /versions. versions: by type URL, of each resource by its name; ages: seconds since a push.

    on_demand: only the part of the mesh is held that was met.
    """

    on_demand: bool
    ages: dict[str, float]
    versions: dict[str, dict[str, str]]
