"""Rules for names, labels and annotations, and Kubernetes' words for what breaks them."""

import random
import re
from collections.abc import Mapping
from typing import Any

from tests.support.kubernetes.errors import Cause

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SERVICE = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_NAME_PART = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must"
    " start and end with an alphanumeric character"
)
_LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and"
    " end with an alphanumeric character"
)
_SERVICE_WORDS = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic"
    " character, and end with an alphanumeric character"
)
_KEY_WORDS = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
    " alphanumeric character"
)
_VALUE_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must"
    " start and end with an alphanumeric character"
)
# Pattern, most characters, and what is said of a name that does not match.
_RULES = {
    "subdomain": (_SUBDOMAIN, 253, _SUBDOMAIN_WORDS),
    "label": (_LABEL, 63, _LABEL_WORDS),
    "service": (_SERVICE, 63, _SERVICE_WORDS),
    "segment": (r"(?!\.{1,2}$)[^/%]+", 253, "may not be '.' or '..', or contain '/' or '%'"),
}
_ANNOTATIONS = 256 << 10  # bytes of all of an object's together
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


def generated(prefix: str) -> str:
    """A name for `generateName`: at most 63 characters, five of them at random."""
    return prefix[:58] + "".join(random.choices(_SUFFIX, k=5))


def wrong_metadata(rule: str, metadata: Mapping[str, Any]) -> list[Cause]:
    """What is wrong with the name, labels and annotations of an object."""
    causes = []
    if prefix := metadata.get("generateName"):
        causes += _wrong_name(rule, "metadata.generateName", prefix + "x")
    if name := metadata.get("name"):
        causes += _wrong_name(rule, "metadata.name", name)
    else:
        required = "Required value: name or generateName is required"
        causes.append(Cause("FieldValueRequired", "metadata.name", required))
    for key, value in metadata.get("labels", {}).items():
        causes += _wrong_key("metadata.labels", key)
        if len(value) > 63 or not re.fullmatch(_VALUE, value):
            causes.append(_bad("metadata.labels", value, _VALUE_WORDS))
    annotations = metadata.get("annotations", {})
    for key in annotations:
        causes += _wrong_key("metadata.annotations", key.lower())
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATIONS:
        too_long = f"Too long: may not be more than {_ANNOTATIONS} bytes"
        causes.append(Cause("FieldValueTooLong", "metadata.annotations", too_long))
    return causes


def _wrong_name(rule: str, field: str, name: str) -> list[Cause]:
    pattern, longest, words = _RULES[rule]
    causes = [] if re.fullmatch(pattern, name) else [_bad(field, name, words)]
    if len(name) > longest:
        causes.append(_bad(field, name, f"must be no more than {longest} bytes"))
    return causes


def _wrong_key(field: str, key: str) -> list[Cause]:
    """A qualified name: an optional prefix, a slash, and a name of at most 63 characters."""
    prefix, slash, name = key.rpartition("/")
    if slash and not re.fullmatch(_SUBDOMAIN, prefix):
        return [_bad(field, key, f"prefix part {_SUBDOMAIN_WORDS}")]
    if len(name) > 63 or not re.fullmatch(_NAME_PART, name):
        return [_bad(field, key, _KEY_WORDS)]
    return []


def _bad(field: str, value: str, words: str) -> Cause:
    return Cause("FieldValueInvalid", field, f'Invalid value: "{value}": {words}')
