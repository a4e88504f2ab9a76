"""The kernel's part: eBPF programs in C, and the Python that loads them.

Tour: `connect.bpf.c` (a connection leaves), `sockops.bpf.c` (its destination changes hands),
`sk_lookup.bpf.c` (one arrives); `maps.h` has what they share. `pins.py` loads it all and keeps it in the
kernel beyond a process.
"""
