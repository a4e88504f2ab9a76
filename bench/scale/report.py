"""The figures of a large cluster, as JSON and as a table."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.scale.run import Figures


class Row(NamedTuple):
    """A line of the table; target: what the figure is to be at most."""

    figure: str
    text: str
    target: float | None = None
    digits: int = 0


ROWS = (
    Row("synced_s", "from the agent's start until its tunnel has acknowledged everything, s", 15, 1),
    Row("agent_synced_cpu_s", "CPU of the agent for that, s", None, 1),
    Row("tunnel_synced_cpu_s", "CPU of the tunnel for that, s", None, 1),
    Row("agent_mb", "agent, resident after that, MB", 350),
    Row("agent_peak_mb", "agent, at most until then, MB"),
    Row("agent_after_mb", "agent, resident after the changes, MB", 350),
    Row("tunnel_mb", "tunnel, resident after that, MB", 130),
    Row("tunnel_peak_mb", "tunnel, at most until then, MB"),
    Row("tunnel_after_mb", "tunnel, resident after the changes, MB", 130),
    Row("on_demand_alone_mb", "tunnel on demand, its own pods only, MB", 75),
    Row("on_demand_mb", "tunnel on demand, a tenth of the services met, MB", 75),
    Row("changes_per_s", "pod changes per second", None, 1),
    Row("cpu", "CPU of agent and tunnel meanwhile, % of one core", 30, 1),
    Row("agent_cpu", "of that the agent, %", None, 1),
    Row("tunnel_cpu", "of that the tunnel, %", None, 1),
    Row("change_p50_ms", "from the API's answer to a change to the acknowledgement, p50, ms", None, 1),
    Row("change_p99_ms", "the same, p99, ms", 250, 1),
    Row("change_max_ms", "the same, at most, ms", None, 1),
    Row("unacknowledged", "changes that were never acknowledged", 0),
)


def write(out: Path, environment: dict[str, Any], rounds: Sequence[Figures]) -> None:
    """Write results.json (everything) and results.md (medians beside their targets)."""
    figures = [_in_percent(one) for one in rounds]
    everything = {"environment": environment, "rounds": figures}
    (out / "results.json").write_text(json.dumps(everything, indent=1) + "\n")
    (out / "results.md").write_text(markdown(environment, figures))


def markdown(environment: dict[str, Any], rounds: Sequence[Figures]) -> str:
    facts = ", ".join(f"{name}: {value}" for name, value in environment.items())
    lines = [
        f"{facts}.",
        "",
        "| | median | from | to | at most | |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in ROWS:
        values = [one[row.figure] for one in rounds]
        found = median(values)
        numbers = " | ".join(f"{value:.{row.digits}f}" for value in (found, min(values), max(values)))
        target = "" if row.target is None else f"{row.target:g}"
        verdict = "" if row.target is None else "reached" if found <= row.target else "**missed**"
        lines.append(f"| {row.text} | {numbers} | {target} | {verdict} |")
    return "\n".join([*lines, ""])


def _in_percent(figures: Figures) -> Figures:
    parts = {name: 100 * figures[name] for name in ("agent_cpu", "tunnel_cpu")}
    return figures | parts | {"cpu": sum(parts.values())}
