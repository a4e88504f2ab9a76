"""Files of Python as the house wants them. Rust's are looked at in tests/tunnel/test_layers.py."""

import ast
from pathlib import Path

from tests.support.lengths import LONGEST, REASON

ROOT = Path(__file__).parents[1]


def test_a_file_is_short_or_says_why() -> None:
    packages = ("agent", "bench", "bpf", "cni", "deploy", "packaging", "protocols", "tunnel")
    files = [path for name in packages for path in (ROOT / name).rglob("*.py") if "_pb2" not in path.name]
    assert len(files) > 100
    long = {path: text for path in files if len((text := path.read_text()).splitlines()) > LONGEST}
    silent = [path for path, text in long.items() if REASON not in (ast.get_docstring(ast.parse(text)) or "")]
    assert not silent, f"more than {LONGEST} lines, and no reason at the head: {silent}"
