// SPDX-License-Identifier: GPL-2.0-only
/* Connections between two captured pods of this node that go straight from one to the other. The tunnel says which pairs
 * may (`direct`), for the pods that it knows by their network namespaces, which nobody can forge; here a connection is held
 * against its word and announced to the other end. */
#pragma once
#include "announced.h"

/* What the tunnel says now; it may have said otherwise a moment ago. */
static __always_inline struct allowance *allowance_of(const struct pair *pair)
{
	struct allowance *allowance = bpf_map_lookup_elem(&direct, pair);
	__u32 index = 0;
	__u64 *now = bpf_map_lookup_elem(&generation, &index);

	return allowance && now && allowance->generation == *now ? allowance : NULL;
}

/* A socket may be bound to an address already. */
static __always_inline bool is_bound_elsewhere(struct bpf_sock *sk, const struct address *from)
{
	struct address bound = sk->family == AF_INET ? address_from_v4(sk->src_ip4) : address_from_v6(sk->src_ip6);

	if (address_is_v4(&bound) ? !bound.word[3] : address_is_empty(&bound))
		return false;
	return !address_equals(&bound, from);
}

/* connect(): whether it goes straight, to what `to` is then. Else it needs the tunnel. */
static __always_inline bool goes_direct(struct bpf_sock *sk, __u64 netns, struct endpoint *to)
{
	struct announcement now = { .pair = { netns, *to, 0 }, .kind = ANNOUNCED_DIRECT };
	struct allowance *allowance = allowance_of(&now.pair);
	__u64 *owner;

	if (!allowance || is_bound_elsewhere(sk, &allowance->from))
		return false;
	now.connection.to = allowance->to;
	owner = bpf_map_lookup_elem(&addresses, &now.connection.to.address);
	if (!owner || *owner != allowance->netns || !will_announce(sk, &now))
		return false;
	*to = now.connection.to;
	return true;
}

/* Announced first, then held against the tunnel's word: whatever the tunnel withdraws, and looks for afterwards, it finds.
 * What is not announced is treated like anybody's connection. */
static __always_inline enum verdict announce_direct(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
						    struct announcement *own)
{
	struct allowance *allowance;

	own->since = bpf_ktime_get_boot_ns();
	if (!announce(ctx, own, BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG)) {
		bpf_sk_storage_delete(&announcing, sk);
		return DIRECT_LOST;
	}
	allowance = allowance_of(&own->pair);
	if (allowance && address_equals(&own->connection.from.address, &allowance->from))
		return DIRECT_ANNOUNCED;
	withdraw(own);
	bpf_sk_storage_delete(&announcing, sk);
	return DIRECT_WITHDRAWN;
}
