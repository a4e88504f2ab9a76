"""Rules for names, labels and annotations, with Kubernetes' words for what breaks them (apimachinery `validation`)."""

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
_RULES = {
    "subdomain": (
        _SUBDOMAIN,
        253,
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must"
        " start and end with an alphanumeric character",
    ),
    "label": (
        _LABEL,
        63,
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and"
        " end with an alphanumeric character",
    ),
    "service": (
        _SERVICE,
        63,
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic"
        " character, and end with an alphanumeric character",
    ),
    "segment": (r"(?!\.{1,2}$)[^/%]+", 253, "may not be '.' or '..', or contain '/' or '%'"),
}
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


def generated(prefix: str) -> str:
    """A name for `generateName`: at most 63 characters, five of them at random."""
    return prefix[:58] + "".join(random.choices(_SUFFIX, k=5))


def wrong_metadata(rule: str, metadata: Mapping[str, Any]) -> list[Cause]:
    """What is wrong with the name and the labels of an object."""
    name = metadata.get("name", "")
    if not name:
        required = "Required value: name or generateName is required"
        return [Cause("FieldValueRequired", "metadata.name", required)]
    pattern, longest, words = _RULES[rule]
    causes = []
    if len(name) > longest:
        causes.append(_bad("metadata.name", name, f"must be no more than {longest} bytes"))
    if not re.fullmatch(pattern, name):
        causes.append(_bad("metadata.name", name, words))
    for key, value in metadata.get("labels", {}).items():
        causes += _wrong_key("metadata.labels", key)
        if len(value) > 63 or not re.fullmatch(_VALUE, value):
            causes.append(_bad("metadata.labels", value, "a valid label must be an empty string or consist of"
                               " alphanumeric characters, '-', '_' or '.', at most 63 of them"))  # fmt: skip
    for key in metadata.get("annotations", {}):
        causes += _wrong_key("metadata.annotations", key.lower())
    return causes


def _wrong_key(field: str, key: str) -> list[Cause]:
    """A qualified name: an optional prefix, a slash, and a name of at most 63 characters."""
    prefix, slash, name = key.rpartition("/")
    if slash and not re.fullmatch(_SUBDOMAIN, prefix):
        return [_bad(field, key, f"prefix part {_RULES['subdomain'][2]}")]
    if len(name) > 63 or not re.fullmatch(_NAME_PART, name):
        return [_bad(field, key, "name part must consist of alphanumeric characters, '-', '_' or '.', and must"
                     " start and end with an alphanumeric character")]  # fmt: skip
    return []


def _bad(field: str, value: str, words: str) -> Cause:
    return Cause("FieldValueInvalid", field, f'Invalid value: "{value}": {words}')
