// SPDX-License-Identifier: GPL-2.0-only
/* A connect() whose outcome nobody knows yet: it is pending until the tunnel has heard from the other end.
 *
 * Its SYN goes to a port of the tunnel's that takes no SYN, and the tunnel is told. If the other end accepts, the tunnel
 * connects from that port to the application's socket: both sides have sent a SYN then, which TCP joins to one connection
 * (RFC 9293 section 3.5). If not, the tunnel answers with a reset, or with what ICMP says. Either ends the application's
 * connect() at once. What is told again with each retransmitted SYN is told for a tunnel that has started meanwhile.
 *
 * What has answered lately is connected at once, as there is little that such a connect() could learn.
 */
#pragma once
#include "maps.h"

/* A destination that nobody has used for so long is not known to answer. */
#define ANSWER_HOLDS_NS (5ULL * 1000 * 1000 * 1000)

enum pending_kind {
	PENDING_BEGINS = 1,
	PENDING_ENDS, /* the application has given up, or has its answer */
};

struct pending_event {
	__u64 socket; /* cookie of the application's */
	__u64 netns;
	struct endpoint from;
	struct endpoint at; /* to which the application is redirected: who answers has this address */
	struct endpoint to; /* what it asked for */
	__u32 sequence; /* of its SYN */
	enum pending_kind kind;
	__u32 zero;
};

static __always_inline bool answered_lately(__u64 netns, const struct endpoint *to)
{
	struct pair pair = { netns, *to, 0 };
	__u64 *used = bpf_map_lookup_elem(&answering, &pair);
	__u64 now = bpf_ktime_get_boot_ns();

	if (!used || now - *used > ANSWER_HOLDS_NS)
		return false;
	*used = now; /* the tunnel forgets it as soon as it fails */
	return true;
}

/* Without a tunnel that answers pending connections, what it accepts is connected. */
static __always_inline bool is_answered_here(__u64 netns)
{
	struct bpf_sock *listener = bpf_map_lookup_elem(&pending_listeners, &netns);

	if (listener)
		bpf_sk_release(listener);
	return listener;
}

static __always_inline bool is_to_wait(__u64 netns, const struct endpoint *to)
{
	return !answered_lately(netns, to) && is_answered_here(netns);
}

static __always_inline struct wanted *pending_of(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	return bpf_ntohl(ctx->remote_port) == PORT_PENDING ? bpf_sk_storage_get(&wanted, sk, NULL, 0) : NULL;
}
