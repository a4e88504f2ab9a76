"""What is asked of the interpreter and the allocator, in a process of its own: it holds for all of one."""

import subprocess
import sys

SCRIPT = """
import gc
from agent import memory
memory.before_loading()
assert not gc.isenabled()
loaded = [{} for _ in range(1000)]
memory.after_loading()
assert gc.isenabled()
assert gc.get_freeze_count() > 1000
"""


def test_nothing_is_collected_while_loading_and_what_is_loaded_is_not_looked_at() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
