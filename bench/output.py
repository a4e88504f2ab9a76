"""The files that a run leaves."""

import json
from dataclasses import asdict
from typing import Any

from bench import report
from bench.plot import plot
from bench.results import Failure, Record, summarise
from bench.settings import Settings
from bench.targets import check, comparisons


def write(
    settings: Settings, environment: dict[str, Any], records: list[Record], failures: list[Failure]
) -> None:
    """Write results.json (everything), results.md (tables) and results.png (a plot)."""
    summary = summarise(records)
    everything = {
        "environment": environment,
        "records": [asdict(record) for record in records],
        "failures": [asdict(failure) for failure in failures],
        "summary": {name: {p: asdict(s) for p, s in by_path.items()} for name, by_path in summary.items()},
        "targets": [
            {**asdict(o.target), "subject": c.subject, "reference": c.reference}
            | {"found": o.found, "reached": o.reached}
            for c in comparisons(settings.paths)
            for o in check(summary, c)
        ],
    }
    (settings.out / "results.json").write_text(json.dumps(everything, indent=1) + "\n")
    page = report.Page(environment, settings.paths, records, failures)
    (settings.out / "results.md").write_text(report.markdown(page))
    title = f"{environment['rounds']} rounds, {environment['cpus']} CPUs, kernel {environment['kernel']}"
    plot(settings.out / "results.png", title, settings.paths, summary)
