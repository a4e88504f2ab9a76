"""`make test-chart`: the chart as Helm renders it, beside what kustomize makes; 1 where they differ.

    python -m tests.chart HELM [KUBECONFIG]

With a kubeconfig that server is asked as well whether it would take each object.
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
FOR = ("--kube-version", "1.30.0")  # which one Helm takes without a server follows from how it was built
Objects = dict[tuple[str, str], Any]


def main(helm: str, kubeconfig: str = "") -> int:
    claims = [*rendered(helm), *refused(helm), *([taken(helm, kubeconfig)] if kubeconfig else [])]
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
    found = base | kustomized(DEPLOY / "discovery")
    yield (
        "discovery.enabled adds deploy/discovery",
        difference(template(helm, "--set", "discovery.enabled=true"), found),
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
        _, error = run(helm, "template", "warren", str(CHART), *FOR, "--set", setting)
        named = setting.partition("=")[0].rpartition(".")[2]
        yield f"the schema refuses {setting}", "" if named in error else error or "it is accepted"


def taken(helm: str, kubeconfig: str) -> tuple[str, str]:
    """What a real server says of each object, with strict validation of fields; nothing of it stays."""
    kubectl = ("kubectl", "--kubeconfig", kubeconfig)
    run(*kubectl, "create", "namespace", NAMESPACE)
    sent = (*kubectl, "apply", "--namespace", NAMESPACE, "--dry-run=server", "--validate=strict", "-f", "-")
    errors = {"/".join(key): run(*sent, text=yaml.safe_dump(body))[1] for key, body in template(helm).items()}
    unknown = [name for name, error in errors.items() if "no matches for kind" in error]
    wrong = [f"{name}: {error}" for name, error in errors.items() if error and name not in unknown]
    served = f"a server takes {len(errors) - len(unknown)} objects"
    return f"{served}; has no such kind: {', '.join(unknown) or 'none'}", "; ".join(wrong)


def template(helm: str, *settings: str, namespace: str = NAMESPACE) -> Objects:
    text, error = run(helm, "template", "warren", str(CHART), *FOR, "--namespace", namespace, *settings)
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
    return sorted(map(sorted_lists, body), key=_text) if isinstance(body, list) else body


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def difference(ours: Objects, theirs: Objects) -> str:
    return ", ".join(
        "/".join(key) for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key)
    )


def run(*command: str, text: str = "") -> tuple[str, str]:
    """What it printed, and its error where it failed."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.stdout, (done.stderr or done.stdout or "failed").strip() if done.returncode else ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
