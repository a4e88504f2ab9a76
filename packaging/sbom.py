"""What a Rust program is linked with, as CycloneDX 1.6 in JSON: `python packaging/sbom.py tunnel FILE`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def main(crate: str, file: str) -> None:
    command = ["cargo", "tree", "--locked", "--prefix=none", "--edges=normal", "--format={p}|{l}"]
    told = subprocess.run(command, cwd=ROOT / crate, check=True, capture_output=True, text=True).stdout
    program, *linked = dict.fromkeys(line.removesuffix(" (*)") for line in told.splitlines())
    sbom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component(program, "application")},
        "components": [component(line, "library") for line in sorted({*linked})],
    }
    Path(file).write_text(json.dumps(sbom, indent=2) + "\n")


def component(line: str, type_: str) -> dict[str, Any]:
    """Of a line such as `bytes v1.10.1|MIT`; after the version macros say so, and our own crates where."""
    crate, _, licence = line.partition("|")
    name, version = crate.split()[:2]
    version = version.removeprefix("v")
    url = f"pkg:cargo/{name}@{version}"
    known = {"licenses": [{"expression": licence.replace("/", " OR ")}]} if licence else {}
    return {"type": type_, "bom-ref": url, "name": name, "version": version, "purl": url, **known}


if __name__ == "__main__":
    main(*sys.argv[1:])
