__all__ = [
    "Applied",
    "Call",
    "Channel",
    "Core",
    "Export",
    "__version__",
    "certificate_chain",
    "certificate_request",
    "discovery_request",
    "export_refused",
    "zds_answer",
    "zds_hello",
    "zds_request",
]

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from os import PathLike
from typing import final

__version__: str

@final
class Core:
    """The threads that carry bytes, in Rust. Methods may be called from any thread and take no GIL."""

    def __new__(
        cls,
        *,
        node: str,
        workers: int,
        spin_us: int,
        access_log: str,
        on_demand: str | None = None,
        direct: tuple[PathLike[str], PathLike[str]] | None = None,
        pending: tuple[PathLike[str], PathLike[str]] | None = None,
        dns: PathLike[str] | None = None,
        crl: bool = False,
        path_normalization: str = "base",
        kept: bool = False,
        standby: bool = False,
    ) -> Core:
        """Start the threads. Raises ValueError, OSError.

        workers: threads, at least 1; spin_us: microseconds for which a thread looks for more work before it
        sleeps, 0 to sleep at once; access_log: "off", "errors" or "all", with ",json" for JSON lines;
        on_demand: this cluster's id, where the mesh is to hold only what is asked for (`demanded`);
        direct: where the agent pins its maps, and a file to be locked, if connections between two pods of
        this node need no tunnel once it has let one in; pending: likewise, with another file, if connect()
        is to wait until the other end has answered; dns: where the agent pins its maps, if pods' questions
        for names that only the mesh knows are to be answered; crl: nobody is believed before `set_crl`;
        path_normalization: of requests, one of `PathNormalization`; kept: there are duplicates
        of the pods' listeners to be had (`listeners`); standby: it listens nowhere before `serve`.
        """
    def add_pod(
        self, uid: str, netns: int, name: str, namespace: str, service_account: str, trust_domain: str
    ) -> None:
        """Listen inside a pod's network namespace, whose descriptor is duplicated.

        A uid that is known already is replaced. Raises OSError when it fails, with nothing left of the pod.
        """
    def add_gateway(self, name: str, namespace: str, service_account: str, trust_domain: str) -> None:
        """Serve the pod that this process is, as a gateway. Raises OSError."""

    def remove_pod(self, uid: str, drain: bool = False) -> None:
        """Listen no more, and end a pod's connections, or with `drain` let them go on to their ends.

        An unknown uid is no error.
        """
    def serve(self, left: Sequence[tuple[int, int, int]]) -> list[tuple[str, str]]:
        """Listen in all pods, with listeners of another process.

        Of each: inode of its network namespace, port, descriptor, which is the core's from now on.
        Gives the uids of pods in which it cannot listen, and why.
        """
    def retire(self) -> None:
        """Listen in no pod any more, and have peers and clients ask elsewhere; what is open goes on."""
    def open(self) -> int:
        """How many connections are open; direct ones are not counted."""
    def listeners(self) -> list[tuple[int, int, int]]:
        """Listeners that came into use since the last call, as `serve` takes them.

        The descriptors are the caller's.
        """
    def pods(self) -> list[str]:
        """The uids of the pods that are served."""
    def apply(self, push: bytes, whole: list[str]) -> Applied:
        """Take in a serialised DeltaDiscoveryResponse. Raises ValueError when it is none.

        Good resources of a push are taken even where others are rejected; of those the former version stays.
        Partial ones come into force with the next that is not. Of the types in `whole` there is no more.
        """
    def held(self, type_url: str) -> bytes:
        """What there is of a type, as the serialised `initial_resource_versions` of a request."""
    def versions(self, type_url: str) -> dict[str, str]:
        """The same for people: versions by names."""
    def names(self) -> list[str]:
        """The DNS names of endpoints that pods of this node may use, in no order."""
    def lookups_fd(self) -> int:
        """A descriptor that is readable while there are new `lookups`."""
    def lookups(self) -> list[str]:
        """The DNS names that clients have given lately (resolution DYNAMIC_DNS), in no order."""
    def resolve(self, name: str, addresses: Sequence[IPv4Address | IPv6Address] | None) -> bool:
        """What DNS has answered for a name, in its order; None: nothing, and the last answer stays.

        Gives whether it is still needed.
        """
    def forget_name(self, name: str) -> None:
        """A name is not asked for any more."""
    def demand_fd(self) -> int | None:
        """On demand: a descriptor that is readable while there is `demand_news`."""
    def demand_news(self) -> tuple[list[str], list[str]]:
        """The names that are needed and those that are not needed any more, since the last call."""
    def demanded(self) -> list[str]:
        """All names that are needed, for a new stream; they are no news any more."""
    def unknown_keys_fd(self) -> int:
        """A descriptor that is readable while there are `unknown_keys`."""
    def unknown_keys(self) -> list[str]:
        """The policies of which tokens have named a key that is in none of their sets, since the last call.

        Each at most every five seconds.
        """
    def forget_unused(self, since_s: float) -> None:
        """On demand: forget what nobody has needed for so many seconds. Raises ValueError."""
    def new_key(self, identity: str) -> str:
        """Make a P-256 key for a SPIFFE identity; gives its certificate request (PEM).

        The key never leaves the process. Raises ValueError when `identity` is no SPIFFE name.
        """
    def set_certificate(self, identity: str, chain: list[str], roots: str) -> int:
        """Use a certificate for the last new key: PEMs, leaf first, and the roots.

        Gives its end in Unix seconds. Raises ValueError when it does not fit the identity or the key.
        """
    def forget_identity(self, identity: str) -> None:
        """Drop the key and certificate of an identity. Tunnels that are open go on."""
    def set_crl(self, data: bytes | None) -> tuple[int, int | None]:
        """The revocation lists in force from now on, one in DER or any number in PEM; None: there are none.

        Tunnels to peers whose chain is revoked end. Gives how many lists there are, and the earliest
        nextUpdate in Unix seconds. Raises ValueError when they cannot be used; what was in force stays.
        """
    def lack_crl(self, problem: str) -> None:
        """Say why there are no revocation lists that can be used: for the dump, and for whom it refuses."""
    def revoked(self) -> list[str]:
        """The identities of this node whose own certificate is revoked."""
    def metrics(self) -> str:
        """All metrics, in the OpenMetrics text format."""
    def expire(self) -> None:
        """Forget series of what is gone, as `metrics` does too, and log how many refusals were withheld."""
    def connections(self) -> str:
        """A JSON array with the record of each open connection."""
    def explain(
        self,
        source: str,
        to: str,
        port: int | None = None,
        address: str | None = None,
        request: tuple[str, str, list[tuple[str, str]]] | None = None,
    ) -> str:
        """What policies say of connections, and why, rule by rule, as a JSON object.

        source: a pod (`namespace/name`, or a name in `default`), an address, a SPIFFE identity, or "plain"
        for somebody without one; address: of those last two. to: a pod that is served, by name or address.
        port: None for each that a Service leads to. request: its method, path with query, and header fields.
        Raises ValueError, which says what to ask instead.
        """
    def check(self, pushes: list[bytes]) -> str:
        """What would become of the open connections if these serialised DeltaDiscoveryResponses came.

        A JSON array with each connection that policies have let in, and whether it would be `closed` and why.
        Nothing comes into force. Raises ValueError when a push would not be taken in as it stands.
        """
    def policies(self) -> str:
        """A JSON array of the policies in force, each with how often it has said what."""
    def routes(self, service: str | None = None) -> str:
        """The routes in force, as a JSON array: of a service, by a name as a pod calls it, or of all.

        Raises ValueError for a service that is not known.
        """
    def gateway_listeners(self) -> str:
        """What this gateway listens on, as a JSON object.

        Raises ValueError where this is no gateway, or one that has not been told.
        """
    def explain_route(self, source: str, method: str, url: str, headers: list[tuple[str, str]]) -> str:
        """Which rule decides about a request, why no earlier one does, and where it goes, as a JSON object.

        source: a pod of this node (`namespace/name`, or a name in `default`); url: absolute. Raises
        ValueError, which says what to ask instead.
        """
    def why(
        self,
        *,
        source: str,
        to: str,
        port: int | None = None,
        method: str = "GET",
        path: str = "/",
        headers: list[tuple[str, str]] = ...,
    ) -> str:
        """What would become of a connection, and why, as a JSON object; nothing is connected.

        source: a pod of this node; to: a Service, pod, address or host name; port: None for each that is
        known; the rest: of a request. Raises ValueError, which says what to ask instead.
        """
    def recent(self, after: int) -> str:
        """Connections and requests that have ended since the one of a number, as a JSON object."""
    def access_log(self, new: str | None = None) -> str:
        """What is logged: `off`, `errors` or `all`; with `new`, from now on. Raises ValueError."""
    def exports(self, busy: list[tuple[str, str]]) -> list[Export]:
        """What waits for collectors: one request for each provider and signal that is not in `busy`."""
    def address_of(self, export: Export) -> str:
        """Where the collector is now, as `host:port`: an endpoint, where it is a service of the mesh."""
    def dump(self) -> str:
        """The configuration in force, as a JSON object."""
    def drain(self, deadline_s: float) -> int:
        """Accept nothing more, tell peers, wait for what is open, cut the rest; gives how many were cut."""

@final
class Applied:
    """What became of a push; `rejected` has names and reasons."""

    @property
    def type_url(self) -> str: ...
    @property
    def nonce(self) -> str: ...
    @property
    def partial(self) -> bool: ...
    @property
    def changed(self) -> int: ...
    @property
    def removed(self) -> int: ...
    @property
    def rejected(self) -> list[tuple[str, str]]: ...

@final
class Export:
    """A request to a collector of OpenTelemetry's.

    signal: `traces` or `logs`; count: spans or records in it; dropped: those that found no room since the
    last one; collector: `host:port` as the provider has it; http_path: None over gRPC, empty for the usual
    one; timeout: seconds.
    """

    @property
    def provider(self) -> str: ...
    @property
    def signal(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def collector(self) -> str: ...
    @property
    def http_path(self) -> str | None: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...
    @property
    def timeout(self) -> float: ...
    @property
    def body(self) -> bytes: ...

@final
class Channel:
    """A server that is called by gRPC; see `tunnel.channel`."""

    def __new__(cls, url: str, roots: bytes | None) -> Channel:
        """url: `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`; roots: PEM, None for the system's.

        Raises OSError when one of them cannot be used.
        """
    def connect(self, timeout_s: float) -> Call:
        """A call that ends as soon as there is a connection."""
    def call(
        self,
        method: str,
        metadata: list[tuple[str, str]],
        message: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Call:
        """Call `/package.Service/Method`. With a message that is the whole request."""

@final
class Call:
    """A call that runs, until its end or until it is dropped."""

    def fileno(self) -> int:
        """A descriptor that becomes readable after `next` gave None."""
    def send(self, message: bytes) -> None:
        """Send a message; more than 64 MiB that the server does not read end the call."""
    def next(self) -> bytes | tuple[int, str] | None:
        """The next message, or the end by its code and text; None: nothing has come yet."""
    def cancel(self) -> None:
        """End it."""

# The messages of `protocols/*.proto` that are exchanged with agent, authority and collectors: the core has a
# decoder as it is, and Python's takes 3 MB. What is no such message raises ValueError.

def discovery_request(
    type_url: str,
    *,
    node: tuple[str, Sequence[tuple[str, str]], Sequence[str]] | None = None,
    nonce: str = "",
    subscribe: Sequence[str] = ...,
    unsubscribe: Sequence[str] = ...,
    error: tuple[int, str] | None = None,
) -> bytes:
    """A `DeltaDiscoveryRequest`. node: id, metadata, features; error: a code of gRPC's, and why."""

def certificate_request(csr: str, metadata: Sequence[tuple[str, str]]) -> bytes:
    """An `IstioCertificateRequest`. csr: PEM."""

def certificate_chain(answer: bytes) -> list[str]:
    """The certificates of an `IstioCertificateResponse`, PEM."""

def export_refused(answer: bytes) -> tuple[int, str]:
    """How many spans or records a collector has not taken, by its answer, and why."""

def zds_hello() -> bytes:
    """A `ZdsHello`, of version 1."""

def zds_request(packet: bytes) -> tuple[str, str, tuple[str, str, str] | None, bool]:
    """A `WorkloadRequest`: the payload's field (empty: one that is not known), uid, info, drain.

    info: the pod's name, namespace and service account, where it comes with them.
    """

def zds_answer(error: str) -> bytes:
    """A `WorkloadResponse`. error: empty when it is done."""
