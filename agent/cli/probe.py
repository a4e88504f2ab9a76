"""What the kernel tells of a pod's TCP: BCC's programs at its tracepoints, and their events.

BCC compiles against kernel headers, of which few nodes have any: it gets the few lines that it needs from
here, and the places of fields from the kernel's BTF. Raises SettingsError where that cannot be.
"""

import contextlib
import ctypes
import os
import platform
import re
import socket
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from agent.cli.btf import Btf
from agent.errors import SettingsError

_EVENTS = Path("/sys/kernel/tracing/events")
_LACKING = "warren trace needs BCC: apt-get install python3-bpfcc (Debian), dnf install python3-bcc (Fedora)"
# By their number: include/net/tcp_states.h.
_STATES = [
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
]
KINDS = ("state", "retransmit", "reset sent", "reset received", "dropped")
_TYPES = """#pragma once
typedef unsigned char __u8, u8; typedef unsigned short __u16, u16;
typedef unsigned int __u32, u32; typedef unsigned long long __u64, u64;
typedef signed char __s8, s8; typedef short __s16, s16; typedef int __s32, s32; typedef long long __s64, s64;
typedef __u16 __le16, __be16, __sum16; typedef __u32 __le32, __be32, __wsum; typedef __u64 __le64, __be64;
typedef __u64 __attribute__((aligned(8))) __aligned_u64;
typedef unsigned long size_t, uintptr_t; typedef long ssize_t; typedef _Bool bool; typedef int pid_t;
enum sk_rst_reason { A_RESET_REASON }; enum skb_drop_reason { A_DROP_REASON };
"""
_EMPTY = ("linux/bpf_common.h", "uapi/linux/bpf.h", "uapi/linux/if_packet.h", "linux/log2.h", "asm/page.h")
_PROGRAM = """
struct event {
    u64 at; u32 kind, from, to, pid; u16 family, sport, dport, unused;
    u8 saddr[16], daddr[16]; char comm[16];
};
BPF_PERF_OUTPUT(events);
#define FIELD(to, base, offset) bpf_probe_read_kernel(&(to), sizeof(to), (void *)(base) + (offset))

static u32 netns_of(void *net) { u32 inum = 0; FIELD(inum, net, NET_INUM); return inum; }
static bool is_ours(void *sk)
{
    void *net = 0;
    if (sk)
        FIELD(net, sk, SOCK_NET);
    return net && netns_of(net) == NETNS;
}
static void tell(void *context, void *sk, u32 kind, u32 from, u32 to)
{
    struct event e = {.at = bpf_ktime_get_ns(), .kind = kind, .from = from, .to = to};
    e.pid = bpf_get_current_pid_tgid() >> 32;
    bpf_get_current_comm(e.comm, sizeof e.comm);
    FIELD(e.family, sk, SOCK_FAMILY);
    FIELD(e.sport, sk, SOCK_SPORT); /* skc_num is 0 once it is closed */
    FIELD(e.dport, sk, SOCK_DPORT);
    e.sport = (e.sport >> 8) | (e.sport << 8);
    e.dport = (e.dport >> 8) | (e.dport << 8);
    if (e.family == 10) {
        FIELD(e.saddr, sk, SOCK_V6_SADDR);
        FIELD(e.daddr, sk, SOCK_V6_DADDR);
    } else {
        bpf_probe_read_kernel(e.saddr, 4, sk + SOCK_SADDR);
        bpf_probe_read_kernel(e.daddr, 4, sk + SOCK_DADDR);
    }
    events.perf_submit(context, &e, sizeof e);
}
TRACEPOINT_PROBE(sock, inet_sock_set_state)
{
    void *sk = (void *)args->skaddr;
    if (args->protocol == 6 && is_ours(sk))
        tell(args, sk, 0, args->oldstate, args->newstate);
    return 0;
}
TRACEPOINT_PROBE(tcp, tcp_retransmit_skb)
{
    void *sk = (void *)args->skaddr;
    if (is_ours(sk))
        tell(args, sk, 1, args->state, 0);
    return 0;
}
TRACEPOINT_PROBE(tcp, tcp_send_reset)
{
    void *sk = (void *)args->skaddr;
    if (is_ours(sk))
        tell(args, sk, 2, 0, 0);
    return 0;
}
TRACEPOINT_PROBE(tcp, tcp_receive_reset)
{
    void *sk = (void *)args->skaddr;
    if (is_ours(sk))
        tell(args, sk, 3, 0, 0);
    return 0;
}
TRACEPOINT_PROBE(skb, kfree_skb)
{
    void *skb = (void *)args->skbaddr, *sk = 0, *dev = 0, *net = 0, *head = 0;
    u16 at = 0, ports[2] = {};
    u8 first = 0;
    FIELD(sk, skb, SKB_SK);
    FIELD(dev, skb, SKB_DEV);
    if (dev)
        FIELD(net, dev, DEV_NET);
    if (!is_ours(sk) && !(net && netns_of(net) == NETNS))
        return 0;
    FIELD(head, skb, SKB_HEAD);
    FIELD(at, skb, SKB_NETWORK);
    FIELD(first, head, at);
    struct event e = {.at = bpf_ktime_get_ns(), .kind = 4, .from = args->reason};
    u8 protocol = 0;
    if (first >> 4 == 4) {
        e.family = 2;
        FIELD(protocol, head, at + 9);
        bpf_probe_read_kernel(e.saddr, 4, head + at + 12);
        bpf_probe_read_kernel(e.daddr, 4, head + at + 16);
        at += (first & 15) * 4;
    } else if (first >> 4 == 6) {
        e.family = 10;
        FIELD(protocol, head, at + 6);
        FIELD(e.saddr, head, at + 8);
        FIELD(e.daddr, head, at + 24);
        at += 40;
    }
    if (protocol != 6)
        return 0;
    FIELD(ports, head, at);
    e.sport = (ports[0] >> 8) | (ports[0] << 8);
    e.dport = (ports[1] >> 8) | (ports[1] << 8);
    events.perf_submit(args, &e, sizeof e);
    return 0;
}
"""


class Event(Struct, frozen=True):
    """Something that happened to a connection. at: seconds of the monotonic clock; kind: of KINDS.

    detail: of a state the new one, of a drop the kernel's reason. process: whose call it was, empty if the
    kernel's own.
    """

    at: float
    kind: str
    detail: str
    former: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    process: str


class _Raw(ctypes.Structure):
    _fields_ = (
        ("at", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("kind", "former", "to", "pid")),
        *((name, ctypes.c_uint16) for name in ("family", "sport", "dport", "unused")),
        ("saddr", ctypes.c_ubyte * 16),
        ("daddr", ctypes.c_ubyte * 16),
        ("comm", ctypes.c_char * 16),
    )


def watch(
    netns: int, heard: Callable[[Event], None], ready: Callable[[], None]
) -> Generator[None, None, None]:
    """Tell of all TCP in the network namespace of this inode; once it is `ready`, each step is a poll."""
    with _headers() as folder:
        os.environ["BCC_KERNEL_SOURCE"] = str(folder)
        bpf = _compiled(netns)
    reasons = _reasons()
    bpf[b"events"].open_perf_buffer(lambda _cpu, data, _size: heard(_event(data, reasons)), page_cnt=64)
    ready()
    with contextlib.closing(_Cleaning(bpf)):
        while True:
            bpf.perf_buffer_poll(timeout=100)
            yield


class _Cleaning:
    def __init__(self, bpf: Any) -> None:
        self._bpf = bpf

    def close(self) -> None:
        self._bpf.cleanup()


def _compiled(netns: int) -> Any:
    try:
        from bcc import BPF  # noqa: PLC0415  (it may be absent)
    except ImportError as error:
        raise SettingsError(_LACKING) from error
    if not _EVENTS.is_dir():
        raise SettingsError(
            "warren trace needs the kernel's tracepoints: mount -t tracefs none /sys/kernel/tracing"
        )
    flags = [f"-D{name}={value}" for name, value in {"NETNS": netns, **_offsets()}.items()]
    try:
        return BPF(text=_PROGRAM.encode(), cflags=[*flags, "-w"])
    except Exception as error:  # BCC has no class of its own
        raise SettingsError(f"BCC cannot load its programs: {error}; is this root, with CAP_BPF?") from error


def _offsets() -> dict[str, int]:
    """In bytes, by the program's names."""
    btf = Btf()
    sock = {"NET": "skc_net", "FAMILY": "skc_family", "DPORT": "skc_dport"}
    sock |= {"SADDR": "skc_rcv_saddr", "DADDR": "skc_daddr"}
    sock |= {"V6_SADDR": "skc_v6_rcv_saddr", "V6_DADDR": "skc_v6_daddr"}
    skb = {"SK": "sk", "DEV": "dev", "HEAD": "head", "NETWORK": "network_header"}
    return {
        **{f"SOCK_{name}": btf.offset("sock_common", field) for name, field in sock.items()},
        **{f"SKB_{name}": btf.offset("sk_buff", field) for name, field in skb.items()},
        "SOCK_SPORT": btf.offset("inet_sock", "inet_sport"),
        "DEV_NET": btf.offset("net_device", "nd_net"),
        "NET_INUM": btf.offset("net", "ns") + btf.offset("ns_common", "inum"),
    }


@contextlib.contextmanager
def _headers() -> Iterator[Path]:
    """A folder that BCC takes for the kernel's headers."""
    major, minor, patch = (int(number) for number in re.findall(r"\d+", f"{platform.release()}.0.0")[:3])
    with tempfile.TemporaryDirectory(prefix="warren-bcc-") as name:
        texts = {
            "linux/kconfig.h": "#define CONFIG_BPF_SYSCALL 1\n",
            "linux/types.h": _TYPES,
            "linux/version.h": "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))\n"
            f"#define LINUX_VERSION_CODE KERNEL_VERSION({major}, {minor}, {min(patch, 255)})\n",
            **dict.fromkeys(_EMPTY, ""),
        }
        for place, text in texts.items():
            path = Path(name, "include", place)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        yield Path(name)


def _reasons() -> dict[int, str]:
    """Why the kernel drops, by number."""
    text = (_EVENTS / "skb/kfree_skb/format").read_text()
    return {int(number): name for number, name in re.findall(r'{ (\d+), "(\w+)" }', text)}


def _event(data: int, reasons: dict[int, str]) -> Event:
    raw = ctypes.cast(data, ctypes.POINTER(_Raw)).contents
    kind = KINDS[raw.kind]
    detail = _STATES[raw.to] if kind == "state" else reasons.get(raw.former, "") if kind == "dropped" else ""
    process = f"{raw.comm.decode(errors='replace')}[{raw.pid}]" if raw.pid and kind == "state" else ""
    return Event(
        raw.at / 1e9,
        kind,
        detail,
        _STATES[raw.former] if kind in ("state", "retransmit") else "",
        _address(raw.family, raw.saddr),
        raw.sport,
        _address(raw.family, raw.daddr),
        raw.dport,
        process,
    )


def _address(family: int, octets: Any) -> str:
    size = 16 if family == socket.AF_INET6 else 4
    text = socket.inet_ntop(socket.AF_INET6 if size == 16 else socket.AF_INET, bytes(octets[:size]))
    return text.removeprefix("::ffff:")
