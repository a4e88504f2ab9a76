// SPDX-License-Identifier: GPL-2.0-only
/* The kubelet's probes. One is known by the process that connects, on the host, and is announced by both its ends. */
#pragma once
#include "announced.h"

/* By the cgroup itself: below the kubelet's there may be the pods'. */
static __always_inline bool by_kubelet(void)
{
	__u64 cgroup = bpf_get_current_cgroup_id();

	return bpf_map_lookup_elem(&kubelets, &cgroup);
}

static __always_inline bool is_declared(const struct pod *pod, __u32 port)
{
	for (int i = 0; i < PROBE_PORTS; i++)
		if (pod->probe_ports[i] == port)
			return true;
	return false;
}

/* connect(): a kubelet connection is a probe only on a captured pod's declared probe port. */
static __always_inline void recognise_probe(struct bpf_sock *sk, const struct endpoint *to)
{
	struct announcement probe = { .connection.to = *to, .kind = ANNOUNCED_PROBE };
	__u64 *netns = bpf_map_lookup_elem(&addresses, &to->address);
	struct pod *pod = netns ? bpf_map_lookup_elem(&pods, netns) : NULL;

	if (!pod || !(pod->flags & POD_CAPTURED))
		return;
	if (!is_declared(pod, bpf_ntohs(to->port)))
		count(PROBE_NOT_DECLARED);
	else if (!will_announce(sk, &probe))
		count(PROBE_LOST);
}

static __always_inline void announce_probe(struct bpf_sock_ops *ctx, struct announcement *own)
{
	count(announce(ctx, own, BPF_SOCK_OPS_STATE_CB_FLAG) ? PROBE_ANNOUNCED : PROBE_LOST);
}

static __always_inline void end_probe(struct announcement *own)
{
	struct arrival *arrival = bpf_map_lookup_elem(&announced, &own->connection);

	if (arrival && !arrival->arrived)
		count(PROBE_NOT_SEEN);
	withdraw(own);
}
