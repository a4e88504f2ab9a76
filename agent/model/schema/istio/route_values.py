"""What HTTP, TLS and TCP rules of Istio's share."""

from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec

from agent.model.schema.istio.base import Strict
from agent.model.schema.objects import Labels
from agent.model.schema.syntax import (
    FieldError,
    Step,
    check_labels,
    is_dns_label,
    is_dns_name,
    is_dns_pattern,
)

Uint32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Weight = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class PortSelector(Strict, frozen=True):
    number: Uint32 = 0

    def __post_init__(self) -> None:
        check_port(self.number, "number")


class Destination(Strict, frozen=True):
    """host: a service's; without a dot it is in the rule's namespace. port: needed where it has several."""

    host: str
    subset: str = ""
    port: PortSelector | None = None

    def __post_init__(self) -> None:
        if self.host == "*":
            raise FieldError("* is no destination; name a service", "host")
        check_host(self.host, "host")
        if self.subset and not is_dns_label(self.subset):
            raise FieldError(f"{self.subset!r} cannot be a subset's name", "subset")

    @property
    def port_number(self) -> int:
        """0: none is named."""
        return self.port.number if self.port else 0


def check_port(number: int, *steps: Step) -> None:
    if not 1 <= number <= 65535:
        raise FieldError(f"{number} is no port number (1 to 65535)", *steps)


def check_host(host: str, *steps: Step) -> None:
    if not is_dns_pattern(host):
        raise FieldError(f"{host!r} is no DNS name, nor one that begins with *", *steps)


def check_weights(weights: Sequence[int], *steps: Step) -> None:
    """Of several destinations one at least has a share."""
    if len(weights) > 1 and not sum(weights):
        raise FieldError("no destination has a weight; write shares such as 90 and 10", *steps)


def check_source(labels: Labels, namespace: str = "") -> None:
    """Of whom a rule is."""
    check_labels(labels.items(), "sourceLabels")
    if namespace and not is_dns_label(namespace):
        raise FieldError(f"{namespace!r} is no namespace", "sourceNamespace")


def check_gateways(names: Iterable[str], *steps: Step) -> None:
    """Each `mesh`, namespace/name, or a name; the DNS names of Istio's first versions are taken too."""
    for index, name in enumerate(names):
        namespace, slash, short = name.partition("/")
        if slash and not (is_dns_label(namespace) and is_dns_label(short)):
            raise FieldError(f"{name!r} is no namespace/name of a Gateway", *steps, index)
        if not slash and not is_dns_name(name):
            raise FieldError(f"{name!r} is no name of a Gateway, and not mesh", *steps, index)
