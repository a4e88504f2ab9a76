// SPDX-License-Identifier: GPL-2.0-only
/* Who acts: the tunnel, or an application. */
#pragma once
#include "maps.h"

/* The tunnel is known by its cgroup, into which no pod can get. A mark, which any process with CAP_NET_ADMIN can set
 * on its sockets, proves nothing. */
static __always_inline bool by_tunnel(void)
{
	__u64 cgroup = bpf_get_current_cgroup_id();

	return bpf_map_lookup_elem(&tunnels, &cgroup);
}

static __always_inline struct pod *pod_of(__u64 netns)
{
	return bpf_map_lookup_elem(&pods, &netns);
}

/* Whether it is an address of that pod. */
static __always_inline bool is_own(__u64 netns, const struct address *address)
{
	__u64 *owner = bpf_map_lookup_elem(&addresses, address);

	return owner && *owner == netns;
}
