"""What is named by a document that is no YAML: a typing error must not open what the object was to close."""

import re

from agent.model import kinds
from agent.model.schema.objects import Key

_END = re.compile(r"\n(?=[^\s#}\]])")  # of a block: behind it another field begins


def named(document: bytes) -> Key | None:
    """The object whose kind and name are told, in block style or in JSON's; None: they are not."""
    text = document.decode(errors="replace")
    version, kind, metadata = (_field(name, text) for name in ("apiVersion", "kind", "metadata"))
    if not (kind and metadata and kind[1] in kinds.KINDS):
        return None
    if version and not kinds.find(version[1], kind[1]):
        return None  # somebody else's
    within = text[metadata.end() :]
    for end in (_END.search(within), _field("spec", within)):
        within = within[: end.start()] if end else within
    name, namespace = _field("name", within), _field("namespace", within)
    return Key(kind[1], namespace[1] if namespace else "default", name[1]) if name and name[1] else None


def _field(name: str, text: str) -> re.Match[str] | None:
    """A field of this name, with its value if that is a word."""
    return re.search(rf"""(?:^|[{{,])\s*["']?{name}["']?\s*:[ \t]*["']?([-./\w]*)""", text, re.MULTILINE)
