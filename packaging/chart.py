"""Makes the Helm chart's templates from the manifests (`make chart`); `--check` only says which are stale.

`deploy/chart/values.yaml` and its schema are written by hand. The templates are the manifests, with their
comments, in which each place of `PLACES` takes its value from there. That value must be the manifest's, so
that the chart without settings is what `kubectl apply -k` sends.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
CHART = DEPLOY / "chart"
TEMPLATES = CHART / "templates"
MANIFESTS = {  # a template's name: what it is made from, and the value that says whether it is wanted
    "settings": ("daemonset/settings.yaml", ""),
    "rbac": ("daemonset/rbac.yaml", ""),
    "ca": ("daemonset/ca.yaml", ""),
    "node": ("daemonset/node.yaml", ""),
    "reporter": ("daemonset/reporter.yaml", "reporter.enabled"),
    "network-policy": ("daemonset/network-policy.yaml", "networkPolicy.enabled"),
    "discovery": ("discovery/discovery.yaml", "discovery.enabled"),
    "discovery-rbac": ("discovery/rbac.yaml", "discovery.enabled"),
    "pod-monitor": ("monitoring/pod-monitor.yaml", "podMonitor.enabled"),
}
NAMESPACE = "warren-system"
IMAGE = "warren"
_POD = "spec.template.spec"
_NODE, _CA, _REPORTER = "DaemonSet/warren-node", "Deployment/warren-ca", "Deployment/warren-reporter"
PLACES = {  # of an object, the path of a field: the value in its place
    "ConfigMap/warren": {"data": "settings"},
    "ConfigMap/warren-mesh": {"data": "meshConfig"},
    _NODE: {
        "spec.updateStrategy.rollingUpdate": "node.rollingUpdate",
        f"{_POD}.priorityClassName": "node.priorityClassName",
        f"{_POD}.nodeSelector": "node.nodeSelector",
        f"{_POD}.tolerations": "node.tolerations",
        f"{_POD}.terminationGracePeriodSeconds": "node.terminationGracePeriodSeconds",
        f"{_POD}.containers.agent.env.WARREN_CRI_SOCKET.value": "node.criSocket",
        f"{_POD}.containers.agent.env.WARREN_OUTBOUND_TRAFFIC_POLICY.value": "outboundTrafficPolicy",
        f"{_POD}.containers.agent.resources": "agent.resources",
        f"{_POD}.containers.tunnel.env.WARREN_ACCESS_LOG.value": "tunnel.accessLog",
        f"{_POD}.containers.tunnel.env.WARREN_DRAIN_DEADLINE.value": "tunnel.drainDeadline",
        f"{_POD}.containers.tunnel.env.WARREN_DIRECT.value": "tunnel.direct",
        f"{_POD}.containers.tunnel.resources": "tunnel.resources",
        f"{_POD}.volumes.cri.hostPath.path": "node.criFolder",
        f"{_POD}.volumes.cni-conf.hostPath.path": "node.cniConfDir",
        f"{_POD}.volumes.cni-bin.hostPath.path": "node.cniBinDir",
    },
    _CA: {
        "spec.replicas": "ca.replicas",
        f"{_POD}.priorityClassName": "ca.priorityClassName",
        f"{_POD}.nodeSelector": "ca.nodeSelector",
        f"{_POD}.containers.ca.resources": "ca.resources",
    },
    "PodDisruptionBudget/warren-ca": {"spec.minAvailable": "ca.minAvailable"},
    _REPORTER: {
        "spec.replicas": "reporter.replicas",
        f"{_POD}.nodeSelector": "reporter.nodeSelector",
        f"{_POD}.containers.reporter.env.WARREN_OUTBOUND_TRAFFIC_POLICY.value": "outboundTrafficPolicy",
        f"{_POD}.containers.reporter.resources": "reporter.resources",
    },
    "Deployment/warren-discovery": {
        "spec.replicas": "discovery.replicas",
        f"{_POD}.containers.discovery.env.WARREN_OUTBOUND_TRAFFIC_POLICY.value": "outboundTrafficPolicy",
        f"{_POD}.containers.discovery.resources": "discovery.resources",
    },
    "PodMonitor/warren-node": {"metadata.labels": "podMonitor.labels"},
    "PodMonitor/warren-ca": {"metadata.labels": "podMonitor.labels"},
}
# Fields that the manifests do not have: written where the value is not empty.
ADDED = {
    _NODE: {
        f"{_POD}.imagePullSecrets": "image.pullSecrets",
        f"{_POD}.affinity": "node.affinity",
        f"{_POD}.securityContext.seLinuxOptions": "node.seLinuxOptions",
    },
    _CA: {
        f"{_POD}.imagePullSecrets": "image.pullSecrets",
        f"{_POD}.tolerations": "ca.tolerations",
        f"{_POD}.affinity": "ca.affinity",
    },
    _REPORTER: {
        f"{_POD}.imagePullSecrets": "image.pullSecrets",
        f"{_POD}.tolerations": "reporter.tolerations",
    },
}


class Edit(NamedTuple):
    """To put `text` in the place of the characters from `start` to `end`."""

    start: int
    end: int
    text: str


class Mismatch(Exception):
    """Manifests, values and the tables above do not fit together."""


def main(check: bool) -> int:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    wanted = {f"{name}.yaml": template(*MANIFESTS[name], values) for name in MANIFESTS}
    generated = {path.name for path in TEMPLATES.glob("*.yaml")}
    stale = [name for name in sorted(generated | wanted.keys()) if _read(name) != wanted.get(name, "")]
    if check:
        for name in stale:
            print(
                f"deploy/chart/templates/{name} is not what the manifests make: run `make chart`",
                file=sys.stderr,
            )
        return bool(stale)
    for name in stale:
        (TEMPLATES / name).write_text(wanted[name]) if name in wanted else (TEMPLATES / name).unlink()
    return 0


def template(manifest: str, condition: str, values: dict[str, Any]) -> str:
    """The template of a manifest. Raises Mismatch."""
    text = (DEPLOY / manifest).read_text()
    if "{{" in text:
        raise Mismatch(f"{manifest} has braces that Helm would read")
    edits = [edit for node in yaml.compose_all(text) for edit in edits_of(node, text, values)]
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    text = text.replace(NAMESPACE, "{{ .Release.Namespace }}")
    if condition:
        text = f"{{{{- if .Values.{condition} }}}}\n{text}{{{{- end }}}}\n"
    return f"# Made by packaging/chart.py from deploy/{manifest}.\n{text}"


def edits_of(node: yaml.Node, text: str, values: dict[str, Any]) -> Iterator[Edit]:
    """What is to be done to the text of one object."""
    body = yaml.safe_load(yaml.serialize(node))
    name = f"{body['kind']}/{body['metadata']['name']}"
    for path, value in PLACES.get(name, {}).items():
        key, found = at(node, path)
        default = yaml.safe_load(yaml.serialize(found))
        if default != (stated := lookup(values, value)):
            raise Mismatch(f"values.yaml: {value} is {stated!r}, the manifest's {name} {path} is {default!r}")
        yield in_place(key, found, text, value)
    for path, value in ADDED.get(name, {}).items():
        parent, _, field = path.rpartition(".")
        _, mapping = at(node, parent)
        yield before(mapping, field, value)
    for key, found in scalars(node):
        if key.value == "image" and found.value == IMAGE:
            yield Edit(found.start_mark.index, found.end_mark.index, '{{ include "warren.image" . }}')


def at(node: yaml.Node, path: str) -> tuple[yaml.Node, yaml.Node]:
    """The key and the value of a path; of a list's items the one with that name. Raises Mismatch."""
    key = node
    for step in path.split("."):
        if isinstance(node, yaml.SequenceNode):
            found = [(key, item) for item in node.value if ("name", step) in named(item)]
        else:
            found = [(k, v) for k, v in node.value if k.value == step]
        if len(found) != 1:
            raise Mismatch(f"a manifest has {len(found)} fields {path}, at {step}")
        [(key, node)] = found
    return key, node


def named(item: yaml.Node) -> list[tuple[str, Any]]:
    return [(key.value, value.value) for key, value in item.value]


def in_place(key: yaml.Node, found: yaml.Node, text: str, value: str) -> Edit:
    """A scalar stays on its line, with its comment; anything else is written below its key."""
    if isinstance(found, yaml.ScalarNode):
        return Edit(found.start_mark.index, found.end_mark.index, f"{{{{ toJson .Values.{value} }}}}")
    indent = key.start_mark.column + 2
    end = found.end_mark.index if found.flow_style else text.rindex("\n", 0, found.end_mark.index)
    return Edit(key.end_mark.index + 1, end, f" {{{{- toYaml .Values.{value} | nindent {indent} }}}}")


def before(mapping: yaml.Node, field: str, value: str) -> Edit:
    """A field that is there when it has a value, before the mapping's first."""
    start, column = mapping.start_mark.index, mapping.start_mark.column
    pad = " " * column
    return Edit(
        start - column,
        start - column,
        f"{pad}{{{{- with .Values.{value} }}}}\n{pad}{field}: {{{{- toYaml . | nindent {column + 2} }}}}\n"
        f"{pad}{{{{- end }}}}\n",
    )


def scalars(node: yaml.Node) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Each key with a scalar, at any depth."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from scalars(item)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(value, yaml.ScalarNode):
                yield key, value
            else:
                yield from scalars(value)


def lookup(values: dict[str, Any], path: str) -> Any:
    for step in path.split("."):
        values = values[step]
    return values


def _read(name: str) -> str:
    path = TEMPLATES / name
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    try:
        sys.exit(main("--check" in sys.argv[1:]))
    except Mismatch as error:
        sys.exit(str(error))
