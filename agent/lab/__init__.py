"""The lab: a cluster with Warren in it, on one machine, out of namespaces, control groups and processes.

    with Lab.up([Path("bookinfo.yaml")]) as lab:
        lab.pod("deploy/productpage-v1").run(["curl", "-s", "http://reviews:9080/"])

`lab.py` is the whole; `controllers.py` makes pods of manifests, `topology.py` a network for them,
`kubelet.py` starts them, `mesh.py` starts Warren on each node, `teardown.py` takes all away.
`state.py` says what is where on disk.
"""

from agent.lab.errors import LabError
from agent.lab.lab import Lab
from agent.lab.members import Node, Pod

__all__ = ["Lab", "LabError", "Node", "Pod"]
