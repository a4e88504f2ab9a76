"""One line for each event, for people or as JSON; never a traceback. In the form of the access log.

Of the standard library alone: a tunnel's process should not pay for more.
"""

import json
import logging
import sys
from datetime import UTC, datetime

_LEVELS = {"warning": "warn", "critical": "error"}  # the access log's names for them


class _Text(logging.Formatter):
    """Fields between tabs: time (RFC 3339, UTC), level, scope, message."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        when = datetime.fromtimestamp(record.created, UTC)
        return when.isoformat(timespec="microseconds").replace("+00:00", "Z")

    def format(self, record: logging.LogRecord) -> str:
        return "\t".join((self.formatTime(record), _level(record), record.name, _message(record)))


class _Json(_Text):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": _level(record),
            "scope": record.name,
            "message": _message(record),
        }
        return json.dumps(line, ensure_ascii=False)


FORMATS: dict[str, type[logging.Formatter]] = {"text": _Text, "json": _Json}


def configure(level: str, form: str) -> None:
    """Log to standard error from `level` on (debug, info, warning, error), in a form of FORMATS."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _level(record: logging.LogRecord) -> str:
    name = record.levelname.lower()
    return _LEVELS.get(name, name)


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[1]:
        text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
    return " ".join(text.split("\n"))
