"""What is wrong with objects before, or after, they are applied: Istio's analyzer messages, and ours.

Codes and levels are those of `istioctl analyze` (messages.yaml of istio/pkg/config/analysis) where there is
one for it; WRN0001 is whatever else of an object in force does not work here.
"""

import re
from collections.abc import Iterable, Iterator

from agent.model.engine.members import labels_of
from agent.model.engine.store import Store
from agent.model.model import Model, apply
from agent.model.schema.istio.authorization_policy import AuthorizationPolicy
from agent.model.schema.istio.destination_rule import DestinationRule
from agent.model.schema.istio.peer_authentication import PeerAuthentication
from agent.model.schema.istio.policy import Policy
from agent.model.schema.istio.service_entry import ServiceEntry
from agent.model.schema.istio.sidecar import Sidecar
from agent.model.schema.istio.traffic_policy import ClientTls
from agent.model.schema.istio.virtual_service import VirtualService
from agent.model.schema.kubernetes import Pod, Service
from agent.model.schema.objects import Key, Object, fits
from agent.sources import manifests
from protocols.proposal import File, Finding, Level

_LEVELS = ("error", "warning", "info")

# By a part of the text with which the model tells a problem of an object in force.
_CODES: dict[str, tuple[str, Level]] = {
    "is no service of the mesh": ("IST0101", "error"),
    "there is no service": ("IST0101", "error"),
    "has no subset": ("IST0101", "error"),
    "has no port": ("IST0101", "error"),
    "is never reached": ("IST0130", "warning"),
    "takes precedence": ("IST0111", "error"),
}
_PART = re.compile(r"; (?=[a-zA-Z.]+(?:\[\d+\]|: ))")  # of a problem's text: each begins with a field
_PREFIXES = ("http", "http2", "https", "tcp", "tls", "grpc", "grpc-web", "mongo", "mysql", "redis", "udp")


def findings(
    model: Model, refused: Iterable[tuple[Key | None, str]], only: set[Key] | None = None
) -> list[Finding]:
    """Of all objects, or of some; the worst first. refused: why objects are not in force."""
    found = [Finding("IST0106", "error", str(key or ""), reason) for key, reason in refused]
    for key, text in model.problems.items():
        found += [_coded(key, part) for part in _PART.split(text)]
    for key, item in model.store.objects.items():
        found += [Finding(code, level, str(key), text) for code, level, text in _looked_at(model, item)]
    wanted = None if only is None else {str(key) for key in only}
    kept = {one for one in found if wanted is None or one.object in wanted or not one.object}
    return sorted(kept, key=lambda one: (_LEVELS.index(one.level), one.object, one.code, one.text))


def analyze(model: Model, files: Iterable[File]) -> list[Finding]:
    """Of what is in files, put into a copy of the model."""
    places, changes, refused = dict[Key, str](), dict[Key, Object](), list[tuple[Key | None, str]]()
    for file in files:
        manifest = manifests.parse(file.text.encode())
        for line, key, reason in manifest.problems:
            refused.append((key, f"{file.name}:{line}: {reason}"))
        for key, item in {**manifest.objects, **manifest.refused}.items():
            places[key], changes[key] = file.name, item
    after, _ = apply(model, changes.items()) if changes else (model, None)
    own = {*changes, *(key for key, _ in refused if key)}
    named = {str(key): place for key, place in places.items()}
    return [
        Finding(one.code, one.level, one.object, one.text, named.get(one.object, ""))
        for one in findings(after, refused, own)
    ]


def _coded(key: Key, text: str) -> Finding:
    code, level = next((coded for part, coded in _CODES.items() if part in text), ("WRN0001", "warning"))
    return Finding(code, level, str(key), text)


def _looked_at(model: Model, item: Object) -> Iterator[tuple[str, Level, str]]:
    match item:
        case Service():
            yield from _ports(item)
        case ServiceEntry():
            yield from _addresses(item)
        case DestinationRule():
            yield from _verification(item)
        case VirtualService():
            yield from _destinations(model, item)
    if isinstance(item, AuthorizationPolicy | PeerAuthentication | Sidecar):
        yield from _selection(model.store, item)


def _ports(item: Service) -> Iterator[tuple[str, Level, str]]:
    for port in item.spec.ports:
        prefix = port.name.partition("-")[0]
        if not port.app_protocol and prefix not in _PREFIXES and port.name not in _PREFIXES:
            named = (
                f"port {port.port} is named {port.name!r}" if port.name else f"port {port.port} has no name"
            )
            yield "IST0118", "info", f"{named}: it is TCP; name it PROTOCOL[-SUFFIX], or set its appProtocol"


def _addresses(item: ServiceEntry) -> Iterator[tuple[str, Level, str]]:
    tcp = [port.number for port in item.spec.ports if port.protocol.upper() in ("", "TCP")]
    if tcp and not item.spec.addresses and item.spec.resolution != "NONE":
        text = f"ports {', '.join(map(str, tcp))} are TCP: give it addresses to tell it by"
        yield "IST0134", "warning", text


def _verification(item: DestinationRule) -> Iterator[tuple[str, Level, str]]:
    policy = item.spec.traffic_policy
    if policy is None:
        return
    if policy.tls and (text := _unverified(policy.tls)):
        yield "IST0128", "warning", f"trafficPolicy.tls: {text}"
    for one in policy.port_level_settings:
        if one.port and one.tls and (text := _unverified(one.tls)):
            yield "IST0129", "warning", f"portLevelSettings of port {one.port.number}: {text}"


def _unverified(tls: ClientTls) -> str:
    unverified = tls.mode in ("SIMPLE", "MUTUAL") and not tls.ca_certificates and not tls.credential_name
    return f"mode {tls.mode} without caCertificates does not verify the server" if unverified else ""


def _destinations(model: Model, item: VirtualService) -> Iterator[tuple[str, Level, str]]:
    for number, rule in enumerate(item.spec.http):
        for route in rule.route:
            destination = route.destination
            service = _service(model, item.metadata.namespace, destination.host)
            if service and len(service.spec.ports) > 1 and destination.port is None:
                ports = ", ".join(str(port.port) for port in service.spec.ports)
                several = f"{destination.host} has several ports ({ports})"
                text = f"http[{number}]: {several}: name one in destination.port"
                yield "IST0112", "error", text


def _service(model: Model, namespace: str, host: str) -> Service | None:
    name, _, rest = host.partition(".")
    return model.store.get(Service, rest.partition(".")[0] or namespace, name)


def _selection(store: Store, item: Policy | Sidecar) -> Iterator[tuple[str, Level, str]]:
    selector, namespace = item.selector, item.metadata.namespace
    if selector and not any(fits(selector, labels_of(pod)) for pod in _pods(store, namespace)):
        labels = ", ".join(f"{name}={value}" for name, value in sorted(selector.items()))
        yield "IST0127", "warning", f"it selects no workload: none has the labels {labels}"


def _pods(store: Store, namespace: str) -> Iterator[Pod]:
    return (pod for pod in store.each(Pod) if pod.metadata.namespace == namespace)
