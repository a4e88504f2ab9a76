"""Whom rules are for: clients of a namespace, or some of them by their labels."""

from collections.abc import Iterable
from typing import NamedTuple

from agent.model.schema.objects import Labels


class Client(NamedTuple):
    """namespace: empty is any of which nothing is said. labels: of those whom a rule selects; none: all."""

    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    def is_selected(self, selector: Labels) -> bool:
        """Whether a rule for some workloads is for all of these clients."""
        return selector.items() <= dict(self.labels).items()


def is_exported(export_to: Iterable[str], own: str, client: str) -> bool:
    """Whether an object of a namespace is for clients of another. export_to: nothing is all namespaces."""
    wanted = {own if one == "." else one for one in export_to} or {"*"}
    return "*" in wanted or client in wanted
