"""Metrics of generations that serve no more: each leaves its page in a file, the one that serves tells all.

Their samples have the label `generation`, so that nothing is counted twice: what the one that serves counts
begins at 0.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping

from tunnel._core import Core
from tunnel.handover import Places

END = "# EOF\n"
_TOLD = 300.0  # seconds after its last word
_FAMILY = re.compile(r"^# (?:HELP|TYPE) (\w+) ")
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


def counted(core: Core) -> str:
    """What a generation has counted, as a page without the closing mark."""
    return core.metrics().removesuffix(END)


def leave(places: Places, number: int, page: str) -> None:
    """Leave a page (OpenMetrics) for the generation that serves. Raises OSError."""
    path = places.metrics(number)
    fresh = path.with_suffix(".new")
    fresh.write_text(page)
    fresh.replace(path)


def left(places: Places) -> dict[int, str]:
    """The pages of all that have served lately, by their numbers; those of others are taken away."""
    pages = {}
    for path in places.directory.glob("tunnel-*.metrics"):
        try:
            if time.time() - path.stat().st_mtime > _TOLD:
                path.unlink()
            else:
                pages[int(path.stem.rpartition("-")[2])] = path.read_text()
        except FileNotFoundError:
            continue  # another one has taken it away
    return pages


def joined(page: str, retired: Mapping[int, str]) -> str:
    """A page with the samples of the retired in it, beside those of their family: a page has each once."""
    if not retired:
        return page
    families = _families(page.splitlines())
    for number, text in sorted(retired.items()):
        for name, lines in _families(text.splitlines()).items():
            known = families.setdefault(name, [line for line in lines if line.startswith("#")])
            known += _labelled(lines, number)
    return "\n".join(line for lines in families.values() for line in lines) + "\n"


def _families(lines: Iterable[str]) -> dict[str, list[str]]:
    """The lines of each family, in their order."""
    families: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        if found := _FAMILY.match(line):
            name = found[1]
        families.setdefault(name, []).append(line)
    return families


def _labelled(lines: Iterable[str], number: int) -> Iterator[str]:
    for line in lines:
        if found := _SAMPLE.match(line):
            labels = f",{found[2]}" if found[2] else ""
            yield f'{found[1]}{{generation="{number}"{labels}}} {found[3]}'
