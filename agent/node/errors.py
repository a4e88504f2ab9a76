"""What goes wrong on a node."""

from agent.errors import WarrenError


class NodeError(WarrenError):
    """Something of this node that cannot be used: a namespace, a rule, a file."""


class NoNamespace(NodeError):
    """There is no network namespace here, for sure; what cannot be looked at is a plain NodeError."""


class DatapathError(NodeError):
    """The redirection cannot be put in place or changed; the text names what is in the way."""
