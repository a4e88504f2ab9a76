"""Events of v1: what there is to say of an object that has no conditions."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from agent.kube.client import MERGE, Client, path_of
from agent.kube.errors import ApiError

_TIMEOUT = 10.0  # seconds
COMPONENT = "warren"
_LONGEST = 1024  # characters that an Event's message may have


def warn(client: Client, path: str, reason: str, message: str) -> None:
    """Make an event of type Warning about the object at `path`, or count the one that says the same.

    Raises ApiError.
    """
    about = client.read(path)
    metadata = about["metadata"]
    namespace = metadata.get("namespace", "default")  # events about what lies in none are there
    within = path_of("api", "v1", "namespaces", namespace, "events")
    # The same text about the same object has the same name, whoever writes it: it is counted, not repeated.
    digest = hashlib.sha256("\0".join((metadata["uid"], reason, message)).encode()).hexdigest()[:16]
    name = f"{metadata['name']:.200}.{digest}"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        former = client.read(f"{within}/{name}")
    except ApiError as error:
        if error.status != 404:
            raise
        event = {"metadata": {"name": name, "namespace": namespace}, **_event(about, reason, message, now)}
        client.request("POST", within, body=event, timeout=_TIMEOUT)
        return
    counted = {"count": former.get("count", 1) + 1, "lastTimestamp": now}
    client.request("PATCH", f"{within}/{name}", body=counted, content_type=MERGE, timeout=_TIMEOUT)


def _event(about: Any, reason: str, message: str, now: str) -> dict[str, Any]:
    metadata = about["metadata"]
    named = {part: metadata[part] for part in ("namespace", "name", "uid") if part in metadata}
    return {
        "involvedObject": {"apiVersion": about["apiVersion"], "kind": about["kind"], **named},
        "type": "Warning",
        "reason": reason,
        "message": message[:_LONGEST],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
