/* A connection arrives for a captured pod: the tunnel gets it, whatever the application listens on. Attached to each
 * captured pod's network namespace. */
#include "probes.h"

static __always_inline struct address local_address(struct bpf_sk_lookup *ctx)
{
	return ctx->family == AF_INET ? address_from_v4(ctx->local_ip4) : address_from_v6(ctx->local_ip6);
}

static __always_inline struct address remote_address(struct bpf_sk_lookup *ctx)
{
	return ctx->family == AF_INET ? address_from_v4(ctx->remote_ip4) : address_from_v6(ctx->remote_ip6);
}

static __always_inline bool from_kubelet(struct bpf_sk_lookup *ctx)
{
	struct connection arriving = {
		.from = endpoint_of(remote_address(ctx), ctx->remote_port),
		.to = endpoint_of(local_address(ctx), bpf_htons(ctx->local_port)),
	};

	return is_probe(&arriving);
}

/* This program type cannot ask for the netns cookie: the pod is known by the address that was called. */
static __always_inline enum verdict steer(struct bpf_sk_lookup *ctx)
{
	struct address local = local_address(ctx);
	__u64 *netns = bpf_map_lookup_elem(&addresses, &local);
	struct bpf_sock *listener;
	long failed;
	__u64 key;

	if (!netns)
		return INBOUND_REFUSED_ADDRESS;
	key = *netns;
	listener = bpf_map_lookup_elem(&listeners, &key);
	if (!listener)
		return INBOUND_REFUSED_NO_TUNNEL;
	failed = bpf_sk_assign(ctx, listener, 0);
	bpf_sk_release(listener);
	return failed ? INBOUND_REFUSED_NO_TUNNEL : INBOUND_STEERED;
}

SEC("sk_lookup")
int inbound(struct bpf_sk_lookup *ctx)
{
	enum verdict verdict;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	if (ctx->ingress_ifindex == LOOPBACK_IFINDEX)
		verdict = INBOUND_LOOPBACK;
	else if (ctx->local_port == PORT_HBONE)
		verdict = INBOUND_HBONE;
	else if (from_kubelet(ctx))
		verdict = INBOUND_PROBE;
	else
		verdict = steer(ctx);
	count(verdict);
	return is_refusal(verdict) ? SK_DROP : SK_PASS;
}
