"""Pods come and go: addresses, network, files, processes. What a scheduler's decision sets off on a node."""

import shutil
from collections.abc import Sequence

from agent.lab import addresses, cgroups, dns, mesh, pods, process, topology
from agent.lab.cluster import Cluster, enrolled
from agent.lab.controllers import Body, Expansion
from agent.lab.members import Pod, pod_cgroup, pod_etc
from agent.lab.state import NodeState, PodState, State, slug
from agent.model.objects import Key

_CAPTURED_WITHIN = 15.0  # seconds
_SERVED_WITHIN = 20.0


def admit(state: State, cluster: Cluster, plan: Expansion) -> list[PodState]:
    """Give the plan's pods addresses and networks, then show its objects to agents and name servers."""
    added = []
    for body in plan.pods:
        added.append(_place(state, body))
        state.pods.append(added[-1])
    state.save()  # before anything is made, so that `down` knows of it
    for pod, body in zip(added, plan.pods, strict=True):
        node = state.node(pod.node)
        topology.add_pod(pod, node)
        topology.settle(pod.netns)
        _complete(body, pod, node)
        pods.write_etc(pod_etc(state, pod), body)
        pod_cgroup(state, pod).mkdir(parents=True)
    for node in state.nodes:
        topology.settle(node.netns)
    cluster.put(plan.objects.values())
    dns.write_hosts(state.run / "hosts", cluster)
    return added


def launch(state: State, cluster: Cluster, added: Sequence[PodState]) -> None:
    """Start pods' own processes, each after its pod is captured, as a CNI plug-in would have it.

    Raises LabError.
    """
    started = [Pod(state, pod, cluster.objects[Key("Pod", pod.namespace, pod.name)]) for pod in added]
    for pod in started:
        if state.mesh and enrolled(cluster, pod.body):
            _await_captured(pod)
            topology.settle(pod.place.netns)  # again: enrolment has added routes
    for pod in started:
        inside = process.over_etc(pod_etc(state, pod.place), pods.command(pod.body))
        process.start(pod.cgroup, process.in_network(pod.netns, inside), pod.log, pod.environment)
    for pod in started:
        _await_served(pod)


def evict(state: State, cluster: Cluster, pod: Pod) -> None:
    """End a pod: its processes, its object, its network. The next pod on its node gets its address."""
    cgroups.kill(pod.cgroup)
    cluster.delete(Key("Pod", pod.namespace, pod.name))
    dns.write_hosts(state.run / "hosts", cluster)
    if pod.place.number:
        topology.remove_pod_link(pod.place, state.node(pod.node))
        topology.remove([pod.place.netns])
    cgroups.remove(pod.cgroup)
    shutil.rmtree(pod_etc(state, pod.place))
    state.pods.remove(pod.place)
    state.save()


def _place(state: State, body: Body) -> PodState:
    meta, node = body["metadata"], body["spec"]["nodeName"]
    own = slug(meta["namespace"], meta["name"])
    if body["spec"].get("hostNetwork"):
        return PodState(meta["namespace"], meta["name"], node, 0, state.node(node).netns, own)
    number = addresses.free_pod_number([pod.number for pod in state.pods if pod.node == node])
    return PodState(meta["namespace"], meta["name"], node, number, f"{state.prefix}-{own}", own)


def _complete(body: Body, pod: PodState, node: NodeState) -> None:
    """What a kubelet would report of a running pod; it is ready at once, for `up` ends when that is true."""
    own = [str(address) for address in topology.pod_addresses(pod, node)]
    body["status"] = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "hostIP": node.address,
        "podIP": own[0],
        "podIPs": [{"ip": address} for address in own],
    }
    body["metadata"]["annotations"]["warren.dev/netns"] = f"/run/netns/{pod.netns}"


def _await_captured(pod: Pod) -> None:
    node = pod.state.node(pod.node)
    agents, log = mesh.cgroup(pod.state, node, "agent"), mesh.log(pod.state, node, "agent")
    process.await_ready(pod.captured, f"{pod.name}'s place in the mesh", agents, log, _CAPTURED_WITHIN)


def _await_served(pod: Pod) -> None:
    wanted = pods.awaited_ports(pod.body)

    def served() -> bool:
        return any(wanted <= process.listening_ports(pid) for pid in pod.pids())

    if wanted:
        process.await_ready(served, f"pod {pod.name}", pod.cgroup, pod.log, _SERVED_WITHIN)
