"""`make test-chart`: the chart as Helm renders it, beside what kustomize makes; 1 where they differ.

    python -m tests.chart HELM [KUBECONFIG]

With a kubeconfig the chart is installed, upgraded and removed there as well: the server validates each field.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "chart"
NAMESPACE = "warren-system"
REFUSED = (
    "node.typo=1",
    "ca.replicas=0",
    "outboundTrafficPolicy=ANY",
    "image.digest=sha256:abc",
    "settings.trust-domain=a",
    "node.cniConfDir=etc/cni",
    "tunnel.drainDeadline=30s",
)
Objects = dict[tuple[str, str], Any]


def main(helm: str, kubeconfig: str = "") -> int:
    claims = [*rendered(helm), *refused(helm), *([installed(helm, kubeconfig)] if kubeconfig else [])]
    for text, wrong in claims:
        print(f"{'FAILS' if wrong else 'holds'}  {text}{f': {wrong}' if wrong else ''}")
    failed = sum(bool(wrong) for _, wrong in claims)
    print(f"{len(claims) - failed} passed, {failed} failed")
    return bool(failed)


def rendered(helm: str) -> Iterator[tuple[str, str]]:
    """What Helm makes beside what kustomize makes, of the base and of each platform."""
    yield "helm lint", run(helm, "lint", "--strict", str(CHART))[1]
    base = kustomized(DEPLOY / "daemonset")
    yield "without settings it is deploy/daemonset", difference(template(helm), base)
    monitored = base | kustomized(DEPLOY / "monitoring")
    yield (
        "podMonitor.enabled adds deploy/monitoring",
        difference(template(helm, "--set", "podMonitor.enabled=true"), monitored),
    )
    for platform in sorted((CHART / "platforms").iterdir()):
        ours = template(helm, "--values", str(platform))
        overlay = kustomized(DEPLOY / "overlays" / platform.stem)
        key = "DaemonSet", "warren-node"
        yield (
            f"platforms/{platform.name} is overlays/{platform.stem}",
            difference({key: sorted_lists(ours[key])}, {key: sorted_lists(overlay[key])}),
        )
    elsewhere = yaml.safe_dump_all(template(helm, namespace="mesh").values())
    yield "another namespace is everywhere", NAMESPACE if NAMESPACE in elsewhere else ""


def refused(helm: str) -> Iterator[tuple[str, str]]:
    """Values that the schema does not have."""
    for setting in REFUSED:
        accepted = run(helm, "template", "warren", str(CHART), "--set", setting)[1] == ""
        yield f"the schema refuses {setting}", "it is accepted" if accepted else ""


def installed(helm: str, kubeconfig: str) -> tuple[str, str]:
    at = ("--kubeconfig", kubeconfig, "--namespace", NAMESPACE)
    steps = (
        ("install", "warren", str(CHART), "--create-namespace"),
        ("upgrade", "warren", str(CHART), "--set", "ca.replicas=3"),
        ("uninstall", "warren"),
    )
    wrong = [error for step in steps if (error := run(helm, *step, *at)[1])]
    return "a server takes install, upgrade and uninstall", "; ".join(wrong)


def template(helm: str, *settings: str, namespace: str = NAMESPACE) -> Objects:
    text, error = run(helm, "template", "warren", str(CHART), "--namespace", namespace, *settings)
    if error:
        sys.exit(error)
    return objects(text)


def kustomized(folder: Path) -> Objects:
    text, error = run("kubectl", "kustomize", str(folder))
    if error:
        sys.exit(error)
    return objects(text)


def objects(text: str) -> Objects:
    """By kind and name; without the namespace, which Helm does not make, and which it takes from its call."""
    found = {}
    for body in yaml.safe_load_all(text):
        if body and body["kind"] != "Namespace":
            body["metadata"].pop("namespace", None)
            found[body["kind"], body["metadata"]["name"]] = body
    return found


def sorted_lists(body: Any) -> Any:
    """kustomize's patches move items of lists."""
    if isinstance(body, dict):
        return {name: sorted_lists(value) for name, value in body.items()}
    return sorted(map(sorted_lists, body), key=json.dumps) if isinstance(body, list) else body


def difference(ours: Objects, theirs: Objects) -> str:
    return ", ".join(
        "/".join(key) for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key)
    )


def run(*command: str) -> tuple[str, str]:
    """What it printed, and its error where it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout, (done.stderr or done.stdout or "failed").strip() if done.returncode else ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
