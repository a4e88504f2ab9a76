"""One line for each event, for people or as JSON; never a traceback."""

import logging
import sys
from datetime import UTC, datetime

import msgspec


class _Text(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        when = datetime.fromtimestamp(record.created, UTC)
        return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def format(self, record: logging.LogRecord) -> str:
        when = self.formatTime(record)
        return f"{when} {record.levelname.lower():7} {record.name}: {_message(record)}"


class _Json(_Text):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "scope": record.name,
            "message": _message(record),
        }
        return msgspec.json.encode(line).decode()


FORMATS: dict[str, type[logging.Formatter]] = {"text": _Text, "json": _Json}


def configure(level: str, form: str) -> None:
    """Log to standard error from `level` on (debug, info, warning, error), in a form of FORMATS."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[1]:
        text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
    return " ".join(text.split("\n"))
