"""Labels that ask for a waypoint."""

from collections.abc import Iterator

from agent.model.schema.objects import Object

LABEL = "istio.io/use-waypoint"


def problems(item: Object) -> Iterator[str]:
    """What its author should know of the label."""
    waypoint = item.metadata.labels.get(LABEL, "none")
    if waypoint != "none":
        yield f"label {LABEL}: {waypoint} is ignored: this version has no waypoints"
