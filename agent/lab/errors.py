"""What the lab says to its user when it cannot go on."""

from agent.errors import WarrenError


class LabError(WarrenError):
    """One clear line that names the thing and the remedy (a process's last log lines may follow it)."""
