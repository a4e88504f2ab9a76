"""Where a run took place."""

import os
import platform
import re
import time
from pathlib import Path
from typing import Any

from bench.settings import Settings
from bench.tools import ROOT, find_envoy, version


def describe(settings: Settings) -> dict[str, Any]:
    """Machine, kernel, versions and settings."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    versions = {
        "Warren": version("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "iperf3": version("iperf3", "--version").partition(" ")[2],
        "wrk": version("wrk", "-v").partition(" Copyright")[0].removeprefix("wrk "),
    }
    if "envoy" in settings.paths:
        versions["Envoy"] = version(str(find_envoy()), "--version").rpartition("version: ")[2]
    if settings.ztunnel and "ztunnel" in settings.paths:
        text = version(str(settings.ztunnel), "version")
        revision = re.search(r'GitRevision:"([^"]+)"', text)
        versions["ztunnel"] = revision[1] if revision else text
    if settings.baseline:
        versions["baseline"] = version("git", "-C", str(settings.baseline), "describe", "--always", "--dirty")
    return {
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "cpu": model[1] if model else platform.machine(),
        "load": os.getloadavg(),
        "rounds": settings.rounds,
        "quick": settings.quick,
        "paths": settings.paths,
        "versions": versions,
    }
