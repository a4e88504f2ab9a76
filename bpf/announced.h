// SPDX-License-Identifier: GPL-2.0-only
/* Connections that are announced by who makes them, before their first segment leaves, and let in by the pod at the other
 * end for as long as they last. Nothing in a packet changes, so there is nothing in a packet that another could set. As
 * long as the entry is there, its maker's socket has the port. A SYN that is forged at this very time gets an answer, but
 * the true maker's host gets it, and resets what it did not open. */
#pragma once
#include "maps.h"

static __always_inline struct announcement *announcement_of(struct bpf_sock *sk)
{
	return bpf_sk_storage_get(&announcing, sk, NULL, 0);
}

/* connect(): it is to be announced as soon as the socket has its port. */
static __always_inline bool will_announce(struct bpf_sock *sk, struct announcement *now)
{
	struct announcement *kept = bpf_sk_storage_get(&announcing, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (kept)
		*kept = *now;
	return kept;
}

/* The socket has its port now, and has sent nothing. */
static __always_inline bool announce(struct bpf_sock_ops *ctx, struct announcement *own, __u32 callbacks)
{
	struct arrival arrival = { .kind = own->kind };

	return !bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | callbacks) &&
	       !bpf_map_update_elem(&announced, &own->connection, &arrival, BPF_ANY);
}

static __always_inline bool has_arrived(const struct announcement *own)
{
	struct arrival *arrival = bpf_map_lookup_elem(&announced, &own->connection);

	return arrival && arrival->arrived;
}

/* The socket closes, and still has its port. Not before: where the application's queue is full, the kernel answers with
 * a SYN cookie, and it is the handshake's last segment that looks for a listener. */
static __always_inline void withdraw(const struct announcement *own)
{
	bpf_map_delete_elem(&announced, &own->connection);
}

/* In the pod: what this is announced as. */
static __always_inline enum announced announced_as(const struct connection *arriving)
{
	struct arrival *arrival = bpf_map_lookup_elem(&announced, arriving);

	if (!arrival)
		return ANNOUNCED_NO_MORE;
	arrival->arrived = 1;
	return arrival->kind;
}
