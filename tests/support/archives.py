"""Debian's packages come from where this machine gets its own: no place is named in the repository."""

import subprocess

KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
"""Which sign what is there."""


def archive(suite: str) -> str:
    """Where this machine gets Debian's packages: other suites are in the same place.

    Raises SystemExit, saying what to do, where apt knows of none.
    """
    label = "Debian-Security" if suite.endswith("-security") else "Debian"
    command = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    places = [line.split()[1] for line in told.splitlines() if line.split()[0] == label]
    if not places:
        raise SystemExit(f"apt knows no archive of {label}: add one below /etc/apt, then `apt-get update`")
    return places[0]
