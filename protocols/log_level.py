"""The log level of a process, to be asked and changed while it runs; the same in agent and tunnel."""

import logging

LEVELS = ("debug", "info", "warning", "error")


def level() -> str:
    """The least that is logged."""
    return logging.getLevelName(logging.getLogger().level).lower()


def set_level(name: str) -> None:
    """From now on log from there on. Raises ValueError."""
    if name not in LEVELS:
        raise ValueError(f"log level {name!r} is none of {', '.join(LEVELS)}")
    logging.getLogger().setLevel(name.upper())
