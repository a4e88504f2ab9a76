"""What stands before a gateway: Istio's `gatewayTopology`, in an annotation of the gateway's pod."""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from agent.model.schema.kubernetes import Pod

ANNOTATION = "proxy.istio.io/config"


class Topology(msgspec.Struct, frozen=True, rename="camel"):
    """num_trusted_proxies: believed about the client; proxy_protocol: connections begin with a header."""

    num_trusted_proxies: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    proxy_protocol: dict[str, Any] | None = None
    forward_client_cert_details: str = ""


class _Config(msgspec.Struct, frozen=True, rename="camel"):
    gateway_topology: Topology = Topology()


def topology(pod: Pod) -> Topology:
    """Of a gateway's pod; of one that cannot be read nobody is believed."""
    try:
        return _read(pod)
    except (msgspec.MsgspecError, RecursionError):
        return Topology()


def problems(pod: Pod) -> Iterator[str]:
    try:
        found = _read(pod)
    except (msgspec.MsgspecError, RecursionError) as error:
        yield f"annotation {ANNOTATION} is ignored: {error}"
        return
    if found.forward_client_cert_details not in ("", "SANITIZE", "UNDEFINED"):
        written = found.forward_client_cert_details
        yield f"annotation {ANNOTATION}: forwardClientCertDetails {written} is not enforced: SANITIZE is"


def _read(pod: Pod) -> Topology:
    """YAML, of which JSON is a part."""
    written = pod.metadata.annotations.get(ANNOTATION)
    return msgspec.yaml.decode(written, type=_Config).gateway_topology if written else Topology()
