"""`make docs`: writes docs/checks.md, and docs/cli.md from a lab."""

import tempfile
from pathlib import Path

from agent.lab import Lab
from tests.docs import checks
from tests.docs.pages import PAGE, write

checks.PAGE.write_text(checks.page())
with Lab.up(name="docs") as lab, tempfile.TemporaryDirectory() as folder:
    PAGE.write_text(write(lab, Path(folder)))
print(f"wrote {PAGE} and {checks.PAGE}")
