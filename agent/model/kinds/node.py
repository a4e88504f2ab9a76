"""Node: its labels say where its pods are."""

from agent.model.engine.kind import CORE, Descriptor
from agent.model.schema.kubernetes import Node

KIND = Descriptor("Node", *CORE, "nodes", Node, namespaced=False)
