"""Pods come and go: addresses, network, files, processes. What a scheduler's decision sets off on a node."""

import shutil
from collections.abc import Sequence

from agent.lab import addresses, cgroups, dns, mesh, pods, process, proxy, runtime, topology
from agent.lab.cluster import Cluster
from agent.lab.controllers import Body, Expansion
from agent.lab.members import Pod, is_gateway, pod_cgroup, pod_etc
from agent.lab.state import NodeState, PodState, State, slug
from agent.model.schema.objects import Key

_SERVED_WITHIN = 20.0  # seconds


def admit(state: State, cluster: Cluster, plan: Expansion) -> list[PodState]:
    """Give the plan's pods networks, and show its objects to the agents: pods are bound, and not started."""
    added = []
    for body in plan.pods:
        added.append(_place(state, body))
        state.pods.append(added[-1])
    state.save()  # before anything is made, so that `down` knows of it
    for pod in added:
        topology.add_pod(pod, state.node(pod.node))
        topology.use_cubic(pod.netns)
        pod_cgroup(state, pod).mkdir(parents=True)
    for node in state.nodes:
        topology.use_cubic(node.netns)
    cluster.put(plan.objects.values())
    publish(state, cluster)
    return added


def publish(state: State, cluster: Cluster) -> None:
    """Bring what pods see of Services up to date: names, and for pods outside of the mesh the way to them."""
    dns.write_hosts(state.run / "hosts", cluster)
    proxy.program(state, cluster)


def launch(state: State, cluster: Cluster, added: Sequence[PodState]) -> None:
    """Start pods' own processes once the CNI plugin has let them, and tell the cluster. Raises LabError."""
    bodies = {pod: cluster.objects[Key("Pod", pod.namespace, pod.name)] for pod in added}
    if state.mesh:
        runtime.attach(state, [(pod, body) for pod, body in bodies.items() if pod.number])
    for pod, body in bodies.items():
        topology.use_cubic(pod.netns)  # again: enrolment has added routes
        _complete(body, pod, state.node(pod.node), ready=not (state.manifests and _is_probed(body)))
        pods.write_etc(pod_etc(state, pod), body)
    cluster.put(bodies.values())
    publish(state, cluster)
    started = [Pod(state, pod, body) for pod, body in bodies.items()]
    for each in started:
        _run(each)
    for each in started:
        _await_served(each)


def restart(pod: Pod) -> None:
    """End a pod's processes and start them again, in the same place. Raises LabError."""
    cgroups.kill(pod.cgroup)
    _run(pod)


def set_ready(state: State, cluster: Cluster, body: Body, ready: bool) -> None:
    """Say of a pod whether it is ready."""
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    if body["status"]["conditions"] != [condition]:
        cluster.put([{**body, "status": {**body["status"], "conditions": [condition]}}])
        publish(state, cluster)


def _run(pod: Pod) -> None:
    node = pod.state.node(pod.node)
    argv = mesh.gateway(pod.state, node, pod.body) if is_gateway(pod.body) else pods.command(pod.body)
    inside = process.over_etc(pod_etc(pod.state, pod.place), argv)
    process.start(pod.cgroup, process.in_network(pod.netns, inside), pod.log, pod.environment)


def evict(state: State, cluster: Cluster, pod: Pod) -> None:
    """End a pod: its processes, its object, its network. The next pod on its node gets its address."""
    cgroups.kill(pod.cgroup)
    cluster.delete(Key("Pod", pod.namespace, pod.name))
    if pod.place.number:
        if state.mesh:
            runtime.detach(state, pod.place, pod.body)
        topology.remove_pod_link(pod.place, state.node(pod.node))
        topology.remove([pod.place.netns])
    cgroups.remove(pod.cgroup)
    shutil.rmtree(pod_etc(state, pod.place))
    state.pods.remove(pod.place)
    state.save()
    publish(state, cluster)


def _place(state: State, body: Body) -> PodState:
    meta, node = body["metadata"], body["spec"]["nodeName"]
    own = slug(meta["namespace"], meta["name"])
    if body["spec"].get("hostNetwork"):
        return PodState(meta["namespace"], meta["name"], node, 0, state.node(node).netns, own)
    number = addresses.free_pod_number([pod.number for pod in state.pods if pod.node == node])
    return PodState(meta["namespace"], meta["name"], node, number, f"{state.prefix}-{own}", own)


def _is_probed(body: Body) -> bool:
    return any("readinessProbe" in container for container in body["spec"]["containers"])


def _complete(body: Body, pod: PodState, node: NodeState, ready: bool) -> None:
    """What a kubelet would report of a running pod; without probes it is ready at once."""
    own = [str(address) for address in topology.pod_addresses(pod, node)]
    body["status"] = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "hostIP": node.address,
        "podIP": own[0],
        "podIPs": [{"ip": address} for address in own],
    }


def _await_served(pod: Pod) -> None:
    wanted = pods.awaited_ports(pod.body)

    if is_gateway(pod.body):
        wanted = {mesh.READY_PORT}

    def served() -> bool:
        return any(wanted <= process.listening_ports(pid) for pid in pod.pids())

    if wanted:
        process.await_ready(served, f"pod {pod.name}", pod.cgroup, pod.log, _SERVED_WITHIN)
