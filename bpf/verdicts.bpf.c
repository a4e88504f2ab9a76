// SPDX-License-Identifier: GPL-2.0-only
/* Counts. */
#include "maps.h"

/* A function of its own, not inlined: its BTF is where user space finds the names of the verdicts. */
int count(enum verdict verdict)
{
	__u32 index = verdict;
	__u64 *counter = bpf_map_lookup_elem(&verdicts, &index);

	if (counter)
		(*counter)++;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
