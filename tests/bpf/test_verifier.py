"""The programs stay far from what a kernel's verifier gives up at, on each kernel that they are tested on."""

import os
import re
from pathlib import Path

import pytest
import yaml

from bpf import libbpf
from bpf.programs import COOKIE, OBJECT
from tests.bpf.verifier import walked

RECORDED: dict[str, dict[str, int]] = yaml.safe_load(Path(__file__).with_name("verifier.yaml").read_text())
CEILING = 10_000  # for a kernel of which nothing is recorded, too; verifiers give up at a million
ROOM = 1.3  # times what is recorded: another compiler's code


def test_the_verifier_walks_hardly_more_than_is_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    """A change that needs more records it: this prints the line for verifier.yaml."""
    kernel = ".".join(re.findall(r"\d+", os.uname().release)[:2])
    counts = dict(sorted((walked(OBJECT) | walked(COOKIE)).items()))
    line = f'"{kernel}": {{{", ".join(f"{name}: {count}" for name, count in counts.items())}}}'
    with capsys.disabled():
        print(f"\n{line}")
    recorded = RECORDED.get(kernel, dict.fromkeys(counts, CEILING))
    assert counts.keys() == recorded.keys(), line
    beyond = {name for name, count in counts.items() if count > min(CEILING, ROOM * recorded[name])}
    assert not beyond, line


def test_libbpf_is_heard_whoever_listened_to_it_last() -> None:
    libbpf.library().libbpf_set_print(None)  # which BCC may call as well, in the same process
    assert walked(COOKIE)
