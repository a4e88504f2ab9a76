// SPDX-License-Identifier: GPL-2.0-only
/* A connection arrives for a captured pod: the tunnel gets it, whatever the application listens on. Attached to each
 * captured pod's network namespace. */
#include "announced.h"
#include "caller.h"
#include "device.h"

static __always_inline struct address local_address(struct bpf_sk_lookup *ctx)
{
	return ctx->family == AF_INET ? address_from_v4(ctx->local_ip4) : address_from_v6(ctx->local_ip6);
}

static __always_inline struct address remote_address(struct bpf_sk_lookup *ctx)
{
	return ctx->family == AF_INET ? address_from_v4(ctx->remote_ip4) : address_from_v6(ctx->remote_ip6);
}

static __always_inline enum announced announced_here(struct bpf_sk_lookup *ctx)
{
	struct connection arriving = {
		.from = endpoint_of(remote_address(ctx), ctx->remote_port),
		.to = endpoint_of(local_address(ctx), bpf_htons(ctx->local_port)),
	};

	return announced_as(&arriving);
}

/* The tunnel's listener in this pod, with a reference to it: the one that is bound to the device by which this comes, else
 * the one that is bound to none. This program type cannot ask for the netns cookie: the pod is known by the address that was
 * called. */
static __always_inline struct bpf_sock *listener_of(struct bpf_sk_lookup *ctx, const __u64 *netns)
{
	__u64 key = *netns;
	struct bpf_sock *listener = device_is_told() ? bpf_map_lookup_elem(&device_listeners, &key) : NULL;

	if (listener && listener->bound_dev_if == ctx->ingress_ifindex)
		return listener;
	if (listener)
		bpf_sk_release(listener);
	return bpf_map_lookup_elem(&listeners, &key);
}

/* Nobody else gets far with the pod's address as a source: for IPv4 the kernel drops what comes with it from outside, for IPv6
 * the answer stays in the pod, where no socket waits for it. */
static __always_inline enum verdict steer(struct bpf_sk_lookup *ctx, bool direct)
{
	struct address local = local_address(ctx), remote = remote_address(ctx);
	__u64 *netns = bpf_map_lookup_elem(&addresses, &local);
	struct bpf_sock *listener;
	long failed;

	if (!netns)
		return INBOUND_REFUSED_ADDRESS;
	if (is_own(*netns, &remote))
		return INBOUND_OWN;
	listener = listener_of(ctx, netns);
	if (!listener)
		return INBOUND_REFUSED_NO_TUNNEL;
	failed = direct ? 0 : bpf_sk_assign(ctx, listener, 0);
	bpf_sk_release(listener);
	if (failed)
		return INBOUND_REFUSED_NO_TUNNEL;
	return direct ? INBOUND_DIRECT : INBOUND_STEERED;
}

static __always_inline bool comes_by_lo(struct bpf_sk_lookup *ctx)
{
	struct address local = local_address(ctx), remote = remote_address(ctx);

	if (device_is_told())
		return ctx->ingress_ifindex == LOOPBACK_IFINDEX;
	return is_within(&local, &remote, ctx->local_port);
}

/* The tunnel's answer to who waits for one (pending.h). A client elsewhere may have that port as well. */
static __always_inline bool is_answer(struct bpf_sk_lookup *ctx)
{
	struct address remote = remote_address(ctx);

	return ctx->remote_port == bpf_htons(PORT_PENDING) && address_is_loopback(&remote);
}

static __always_inline enum verdict judge(struct bpf_sk_lookup *ctx)
{
	enum announced announced;

	/* Who waits has a socket that is found before this is asked; no other socket may take its answer. */
	if (comes_by_lo(ctx))
		return is_answer(ctx) ? INBOUND_REFUSED_GIVEN_UP : INBOUND_LOOPBACK;
	if (ctx->local_port == PORT_HBONE)
		return INBOUND_HBONE;
	announced = announced_here(ctx);
	if (announced == ANNOUNCED_PROBE)
		return INBOUND_PROBE;
	if (announced == ANNOUNCED_DELIVERY)
		return INBOUND_DELIVERY;
	/* Without a tunnel nobody would look after a direct connection, or end it when policies change. */
	return steer(ctx, announced == ANNOUNCED_DIRECT);
}

SEC("sk_lookup")
int inbound(struct bpf_sk_lookup *ctx)
{
	enum verdict verdict;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	verdict = judge(ctx);
	count(verdict);
	return is_refusal(verdict) ? SK_DROP : SK_PASS;
}
