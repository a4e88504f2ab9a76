"""What an API server fills in when it admits an object: for manifests that pass none, those of a folder."""

from typing import Any

from agent.model.schema.kubernetes import MIRROR

Body = dict[str, Any]


def admit_pod(body: Body) -> Body:
    """A pod, or the template of one, with a service account: `default` where it names none.

    As the ServiceAccount admission of Kubernetes, which leaves the objects of static pods alone. What is not
    shaped like a pod stays as it is.
    """
    spec, metadata = body.get("spec", {}), body.get("metadata", {})
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if not isinstance(spec, dict) or (isinstance(annotations, dict) and MIRROR in annotations):
        return body
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    return {**body, "spec": {**spec, "serviceAccountName": account}}
