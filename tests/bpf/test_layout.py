"""Both sides agree: structs and numbers of the C headers against Python's, by the object's own BTF."""

import ctypes
import re
import struct
from ipaddress import IPv6Network, ip_address
from pathlib import Path

import pytest

import bpf
from agent.node import routing
from bpf import layout, pins
from bpf.btf import Member
from bpf.programs import Object
from tests.support import standin

HEADERS = Path(bpf.__file__).parent


@pytest.fixture(scope="module")
def program() -> Object:
    return Object()


def members(struct: type[ctypes.Structure]) -> list[Member]:
    fields = ((str(field[0]), getattr(struct, field[0])) for field in struct._fields_)
    return [Member(name, field.offset, field.size) for name, field in fields]


def test_pod_is_the_same_struct(program: Object) -> None:
    assert members(layout.Pod) == program.btf.struct("pod")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("pods", 8, ctypes.sizeof(layout.Pod)),
        ("addresses", len(layout.pack_address(ip_address("::1"))), 8),
        ("tunnels", 8, 4),
        ("kubelets", 8, 4),
        ("listeners", 8, 8),
        ("device_listeners", 8, 8),
        ("verdicts", 4, 8),
    ],
)
def test_maps_have_the_sizes_that_are_written(program: Object, name: str, key: int, value: int) -> None:
    found = program.layout(name)
    assert (found.key_size, found.value_size) == (key, value)


def test_flags_are_the_same(program: Object) -> None:
    """The enum is in no signature, so it has no BTF; the header is asked."""
    header = (HEADERS / "maps.h").read_text()
    assert f"POD_CAPTURED = {layout.POD_CAPTURED}," in header
    assert f"POD_PREFIX = {layout.POD_PREFIX}," in header


def test_room_for_probe_ports_is_the_same() -> None:
    assert f"#define PROBE_PORTS {layout.PROBE_PORTS}\n" in (HEADERS / "maps.h").read_text()


def test_ports_and_mark_are_the_same() -> None:
    defined = dict(re.findall(r"^#define (\w+) (\w+)", (HEADERS / "constants.h").read_text(), re.MULTILINE))
    assert int(defined["MARK_DELIVERY"], 0) == routing.MARK
    prefix = struct.pack("!II8x", int(defined["REDIRECT_PREFIX_0"], 0), int(defined["REDIRECT_PREFIX_1"], 0))
    assert IPv6Network((prefix, 64)) == routing.PREFIX
    assert int(defined["PORT_OUTBOUND"]) == standin.OUTBOUND
    assert int(defined["PORT_INBOUND"]) == standin.INBOUND
    assert int(defined["PORT_HBONE"]) == standin.HBONE


def test_every_verdict_has_a_counter(program: Object) -> None:
    names = program.btf.enum("verdict")
    assert [value for _, value in names] == list(range(len(names)))
    assert names[-1] == ("VERDICTS", program.layout("verdicts").max_entries)


def test_layout_of_what_holds_sockets_never_changes(program: Object) -> None:
    """User space cannot carry these over: a version in which this test fails cannot follow one before it."""
    kept = {name: program.layout(name) for name in pins.KEPT}
    sk_storage, sockhash, no_prealloc_clone = 24, 18, 1 | 1 << 9
    listeners = {
        "types": "", "type": sockhash, "max_entries": 4096, "map_flags": 0, "key_size": 8, "value_size": 8,
    }  # fmt: skip
    assert vars(kept["listeners"]) == vars(kept["device_listeners"]) == listeners
    assert vars(kept["tunnel_ports"]) == {
        "types": "1/int/4 -> 1/unsigned long long/8 ", "type": sk_storage, "max_entries": 0,
        "map_flags": no_prealloc_clone, "key_size": 4, "value_size": 8,
    }  # fmt: skip


def test_carried_maps_exist(program: Object) -> None:
    assert set(pins.CARRIED) <= set(program.maps)


@pytest.mark.parametrize("text", ["10.1.2.3", "255.255.255.255", "::1", "fd00::2"])
def test_addresses_keep_their_form(text: str) -> None:
    assert layout.unpack_address(layout.pack_address(ip_address(text))) == ip_address(text)
    assert len(layout.pack_address(ip_address(text))) == 16
