"""`exportTo` of VirtualServices and DestinationRules."""

from collections.abc import Iterable

from agent.model.schema.syntax import FieldError, Step, is_dns_label


def check_export_to(namespaces: Iterable[str], own: str, *steps: Step) -> None:
    """Each a namespace or `.` once, or `*` alone. own: the object's namespace, which `.` means."""
    wanted = [own if one == "." else one for one in namespaces]
    for index, one in enumerate(wanted):
        if one != "*" and not is_dns_label(one):
            raise FieldError(f"{one!r} is no namespace, nor one of . *", *steps, index)
        if one in wanted[:index]:
            raise FieldError(f"{one} is there twice; write it once", *steps, index)
    if "*" in wanted and len(wanted) > 1:
        raise FieldError("* means all namespaces; it stands alone", *steps)
