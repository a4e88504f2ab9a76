"""Errors whose text is for people: one line that names the thing and the remedy."""


class WarrenError(Exception):
    """What a user is told, as it stands. `exit_code` is the process's, 1 to 125."""

    exit_code = 1


class SettingsError(WarrenError):
    """One or more settings that cannot be used; the text has one line for each."""

    exit_code = 2
