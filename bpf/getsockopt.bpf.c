// SPDX-License-Identifier: GPL-2.0-only
/* getsockopt(SO_ORIGINAL_DST): answers the tunnel as netfilter would. What was not redirected keeps the kernel's own
 * answer, an error. */
#include "maps.h"

/* struct sockaddr_in and struct sockaddr_in6 of the UAPI. */
struct sockaddr_v4 {
	__u16 family;
	__be16 port;
	__be32 address;
	__u64 zero;
};

struct sockaddr_v6 {
	__u16 family;
	__be16 port;
	__be32 flowinfo;
	struct address address;
	__u32 scope;
};

/* The verifier refuses the two stores merged into one of 8 bytes. */
static __always_inline int answered(struct bpf_sockopt *ctx, int length)
{
	ctx->optlen = length;
	asm volatile("" ::: "memory");
	ctx->retval = 0;
	return PROCEED;
}

static __always_inline int answer_v4(struct bpf_sockopt *ctx, const struct endpoint *peer)
{
	struct sockaddr_v4 *to = ctx->optval;

	if ((void *)(to + 1) > ctx->optval_end)
		return PROCEED;
	*to = (struct sockaddr_v4){ AF_INET, peer->port, peer->address.word[3], 0 };
	return answered(ctx, sizeof(*to));
}

static __always_inline int answer_v6(struct bpf_sockopt *ctx, const struct endpoint *peer)
{
	struct sockaddr_v6 *to = ctx->optval;

	if ((void *)(to + 1) > ctx->optval_end)
		return PROCEED;
	*to = (struct sockaddr_v6){ AF_INET6, peer->port, 0, peer->address, 0 };
	return answered(ctx, sizeof(*to));
}

SEC("cgroup/getsockopt")
int getsockopt(struct bpf_sockopt *ctx)
{
	struct endpoint *peer;
	bool v4;

	if (ctx->optname != SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6) || !ctx->sk)
		return PROCEED;
	peer = bpf_sk_storage_get(&accepted, ctx->sk, NULL, 0);
	if (!peer)
		return PROCEED;
	v4 = address_is_v4(&peer->address);
	if (v4 != (ctx->level == SOL_IP))
		return PROCEED;
	return v4 ? answer_v4(ctx, peer) : answer_v6(ctx, peer);
}
