"""Options of commands that read the mesh's objects: which mesh it is, how far key sets are fetched from."""

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent.cli.command import option
from agent.cli.types import READABLE_FILE

if TYPE_CHECKING:
    from agent.model.mesh import Mesh

F = TypeVar("F", bound=Callable[..., Any])
_MESH = (
    option("--trust-domain", default="cluster.local", help="of all identities"),
    option("--cluster", default="Kubernetes", help="id of this cluster"),
    option("--revision", default="default", help="objects labelled istio.io/rev for another one are ignored"),
    option("--network", default="", help="id of the network that pods are in"),
    option(
        "--mesh-config", type=READABLE_FILE, help="Istio's MeshConfig: providers, and what is their default"
    ),
)
_KEY_SETS = (
    option(
        "--jwks-reach",
        type=click.Choice(["public", "private", "any"]),
        default="private",
        help="where key sets (jwksUri) may be: at public addresses, private ones, too, or loopback, too "
        "(any)",
    ),
    option("--jwks-redirects", is_flag=True, help="follow redirects when key sets are fetched"),
)


def mesh_options(command: F) -> F:
    """Those that `take_mesh` takes."""
    return _with(_MESH, command)


def outbound_option(
    text: str = "where no Sidecar says it: whether what the mesh does not know may be connected to",
) -> Callable[[F], F]:
    """--outbound-traffic-policy, which `take_mesh` takes as well."""
    choice = click.Choice(["ALLOW_ANY", "REGISTRY_ONLY"])
    return option("--outbound-traffic-policy", type=choice, default="ALLOW_ANY", help=text)


def key_set_options(command: F) -> F:
    return _with(_KEY_SETS, command)


def take_mesh(settings: dict[str, Any]) -> "Mesh":
    """The mesh of a command's options, which are no more among its `settings`. Raises SettingsError."""
    from agent.model.mesh import Mesh  # noqa: PLC0415  (a bad setting should be told before a second of imports)
    from agent.sources.mesh_config import read  # noqa: PLC0415

    names = ("cluster", "trust_domain", "network", "revision", "outbound_traffic_policy")
    own = {name: settings.pop(name) for name in names if name in settings}
    return Mesh(config=read(settings.pop("mesh_config")), **own)


def _with(options: tuple[Callable[[F], F], ...], command: F) -> F:
    return reduce(lambda wrapped, one: one(wrapped), reversed(options), command)
