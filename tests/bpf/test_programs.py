"""Objects that cannot be used are refused in one line."""

from pathlib import Path

import pytest

from bpf.errors import BpfError
from bpf.maps import Map
from bpf.programs import OBJECT, Object


def test_object_that_is_missing_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(BpfError, match=f"is missing: make -C {tmp_path}"):
        Object(tmp_path / "none.bpf.o")


def test_object_that_is_none(tmp_path: Path) -> None:
    broken = tmp_path / "broken.bpf.o"
    broken.write_bytes(b"\x7fELF and nothing more")
    with pytest.raises(BpfError, match=r"broken.bpf.o cannot be read: .*") as refused:
        Object(broken)
    assert "\n" not in str(refused.value)


def test_object_has_what_is_attached() -> None:
    program = Object(OBJECT)
    assert {"connect4", "connect6", "tcp_event", "getsockopt", "inbound"} <= set(program.programs)
    assert {"pods", "addresses", "tunnels", "listeners", "verdicts"} <= set(program.maps)


@pytest.fixture(scope="module")
def addresses() -> Map:
    program = Object()
    program.load()
    return program.map("addresses")


def test_map_gives_back_what_was_put(addresses: Map) -> None:
    key, value = bytes(range(16)), bytes(range(8))
    assert addresses.get(key) is None
    addresses.put(key, value)
    assert addresses.get(key) == value
    assert addresses.items() == [(key, value)]
    addresses.delete(key)
    addresses.delete(key)
    assert addresses.items() == []


def test_map_refuses_other_sizes(addresses: Map) -> None:
    with pytest.raises(ValueError, match="map addresses: a key has 16 bytes, not 4"):
        addresses.get(b"1234")
    with pytest.raises(ValueError, match="map addresses: a value has 8 bytes, not 1"):
        addresses.put(bytes(16), b"1")
