"""The bookinfo sample, as controllers and kubelets would have filled it in, from text to resources."""

import yaml

from agent.model.schema.objects import Object
from agent.sources.manifests import parse
from protocols.workload_pb2 import AppProtocol, TunnelProtocol, WorkloadStatus, WorkloadType
from tests.agent.model.objects import make, model_of, pod, service_of, workload
from tests.support.samples import BOOKINFO


def pods() -> list[Object]:
    """One pod for each Deployment."""
    found = []
    for number, document in enumerate(yaml.safe_load_all(BOOKINFO.read_text())):
        if document and document["kind"] == "Deployment":
            name, template = document["metadata"]["name"], document["spec"]["template"]
            owner = {"kind": "ReplicaSet", "name": f"{name}-5d8f", "controller": True}
            labels = {**template["metadata"]["labels"], "pod-template-hash": "5d8f"}
            ip, references = f"10.1.0.{number}", [owner]
            found.append(pod(name, ip, spec=template["spec"], labels=labels, ownerReferences=references))
    return found


def test_bookinfo() -> None:
    ambient = make("Namespace", "default", labels={"istio.io/dataplane-mode": "ambient"})
    model = model_of(ambient, *parse(BOOKINFO.read_bytes()).objects.values(), *pods())
    assert len(model.resources) == 4 + 6

    [port] = service_of(model, "reviews").ports
    assert (port.service_port, port.target_port, port.app_protocol) == (9080, 9080, AppProtocol.HTTP11)
    for version in ("v1", "v2", "v3"):
        message = workload(model, f"reviews-{version}")
        assert (message.canonical_name, message.canonical_revision) == ("reviews", version)
        assert (message.workload_type, message.workload_name) == (
            WorkloadType.DEPLOYMENT,
            f"reviews-{version}",
        )
        assert message.service_account == "bookinfo-reviews"
        assert (message.status, message.tunnel_protocol) == (WorkloadStatus.HEALTHY, TunnelProtocol.HBONE)
        assert list(message.services) == ["default/reviews.default.svc.cluster.local"]
        [port] = message.services["default/reviews.default.svc.cluster.local"].ports
        assert (port.service_port, port.target_port) == (9080, 9080)
