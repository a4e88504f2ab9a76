"""Debian's packages differ in where they have a kernel, and in what is a module of it."""

from pathlib import Path

import pytest

from tests.kernels.machine import machine, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"needs {' '.join(missing())}")


@pytest.mark.parametrize("place", ["boot/vmlinuz-7.2", "lib/modules/7.2/vmlinuz"])
def test_a_kernel_is_found_where_its_package_has_it(tmp_path: Path, place: str) -> None:
    kernel = tmp_path / "newest"
    (kernel / "lib" / "modules" / "7.2").mkdir(parents=True)
    (kernel / place).parent.mkdir(exist_ok=True)
    (kernel / place).touch()
    command = machine(kernel, "true")
    assert command[command.index("-kernel") + 1] == str(kernel / place)
    assert (tmp_path / "newest.root" / "modules" / "order").read_text() == "", "all is built in"
