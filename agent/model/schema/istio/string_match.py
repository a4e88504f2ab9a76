"""Istio's StringMatch."""

from collections.abc import Mapping

from agent.model.schema.http_values import check_regex
from agent.model.schema.istio.base import Strict
from agent.model.schema.syntax import FieldError, Step


class StringMatch(Strict, frozen=True):
    """One of them, or none: then anything will do that is there.

    regex: RE2, of the whole value.
    """

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None

    def __post_init__(self) -> None:
        written = [name for name in ("exact", "prefix", "regex") if getattr(self, name) is not None]
        if len(written) > 1:
            raise FieldError(f"{' and '.join(written)} exclude each other; keep one")

    @property
    def any_value(self) -> bool:
        """Whether it only asks for presence; `*` is no regular expression, but Istio's word for that."""
        return self in (StringMatch(), PRESENT)

    def check(self, *steps: Step) -> None:
        """What Istio demands of one that is not a path's."""
        if self.prefix == "":
            raise FieldError("an empty prefix fits everything; write {} for presence", *steps, "prefix")
        if self.regex is not None:
            check_regex(self.regex, *steps, "regex")


PRESENT = StringMatch(regex="*")


def check_each(matches: Mapping[str, StringMatch], *steps: Step) -> None:
    """Each of several, by what it is for."""
    for name, match in matches.items():
        match.check(*steps, name)
