"""How names, labels and addresses are written, as the API server and Istio's webhook demand it.

Checks raise FieldError. A decoder adds where in the object the value stands.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

Step = str | int

_LONGEST_NAME, _LONGEST_LABEL = 255, 63  # characters: RFC 1035, section 2.3.4
_LABEL = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_DNS_LABEL = re.compile(_LABEL)
_WILDCARD_LABEL = re.compile(rf"\*|(?:\*|\*-)?{_LABEL}")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")


class FieldError(ValueError):
    """What is wrong with a value, and the remedy. steps: the way to it from what is checked."""

    def __init__(self, reason: str, *steps: Step) -> None:
        super().__init__(reason)
        self.steps = steps


def is_dns_label(text: str, longest: int = _LONGEST_LABEL) -> bool:
    """RFC 1123, in either case."""
    return len(text) <= longest and _DNS_LABEL.fullmatch(text) is not None


def is_dns_name(text: str) -> bool:
    """A host name, not an address; a dot may end it."""
    *labels, last = text.split(".")
    return 0 < len(text) <= _LONGEST_NAME and not last.isdecimal() and _are_labels(labels, last)


def is_dns_pattern(text: str) -> bool:
    """A host name whose first label may be `*`, or begin with it."""
    first, dot, rest = text.partition(".")
    begins = len(first) <= _LONGEST_LABEL and _WILDCARD_LABEL.fullmatch(first) is not None
    return begins and len(text) <= _LONGEST_NAME and (not dot or not rest or is_dns_name(rest))


def is_subdomain(text: str) -> bool:
    """What most of Kubernetes' objects can be called."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def check_name(name: str, *steps: Step) -> None:
    """What a label is called, or in lower case an annotation."""
    prefix, slash, short = name.rpartition("/")
    if not _is_qualified(short) or (slash and not is_subdomain(prefix)):
        raise FieldError(
            f"{name!r} is no name of a label or annotation, such as app or a.example/app", *steps
        )


def check_labels(labels: Iterable[tuple[str, str]], *steps: Step) -> None:
    """Labels that something has."""
    for name, value in labels:
        check_name(name, *steps)
        if value and not _is_qualified(value):
            reason = f"{value!r} cannot be a label's value: up to 63 letters, digits, -, _ and ."
            raise FieldError(reason, *steps, name)


def check_selector(labels: Iterable[tuple[str, str]], *steps: Step) -> None:
    """Labels that are looked for: each as a whole, or nothing would ever have them."""
    for name, value in labels:
        if not name:
            raise FieldError("a label has a name; name it, or leave the label out", *steps)
        if "*" in name or "*" in value:
            reason = f"{name}={value} has a wildcard, which selects nothing; write the whole label"
            raise FieldError(reason, *steps, name)
        if len(value) > _LONGEST_LABEL:
            raise FieldError("no label is longer than 63 characters", *steps, name)


def check_range(text: str, *steps: Step) -> None:
    """An address, or a range of them in CIDR notation: netmasks, ports and zones of ranges are none."""
    address, slash, length = text.partition("/")
    try:
        ip_address(address) if not slash else ip_network(text, strict=False)
    except ValueError:
        pass
    else:
        if not slash or ("%" not in address and _LENGTH.fullmatch(length)):
            return
    raise FieldError(f"{text!r} is no address and no range such as 10.0.0.0/8", *steps)


def check_port(text: str, *steps: Step, least: int = 0) -> None:
    """A port that is written as a string."""
    if not (text.isascii() and text.isdecimal() and least <= int(text) <= 65535):
        raise FieldError(f"{text!r} is no port number ({least} to 65535)", *steps)


def _are_labels(labels: list[str], last: str) -> bool:
    return all(map(is_dns_label, labels)) and (is_dns_label(last) or (not last and bool(labels)))


def _is_qualified(text: str) -> bool:
    return len(text) <= _LONGEST_LABEL and _QUALIFIED.fullmatch(text) is not None
