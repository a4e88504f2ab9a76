/* The life of a TCP socket: listeners of the tunnel register, original destinations change hands, the kubelet's probes
 * are announced. */
#include "probes.h"

static __always_inline struct endpoint local_end(struct bpf_sock_ops *ctx)
{
	struct address address = ctx->family == AF_INET ? address_from_v4(ctx->local_ip4) :
							  address_from_v6(ctx->local_ip6);

	return endpoint_of(address, bpf_htons(ctx->local_port));
}

static __always_inline struct endpoint remote_end(struct bpf_sock_ops *ctx)
{
	struct address address = ctx->family == AF_INET ? address_from_v4(ctx->remote_ip4) :
							  address_from_v6(ctx->remote_ip6);

	return endpoint_of(address, bpf_htons(bpf_ntohl(ctx->remote_port)));
}

/* The kernel takes a socket out when it closes; a newer listener takes the place of an older one at once. */
static __always_inline void register_listener(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__u64 *netns = bpf_sk_storage_get(&tunnel_ports, sk, NULL, 0);
	__u64 key;

	if (!netns || ctx->local_port != PORT_INBOUND)
		return;
	key = *netns;
	count(bpf_sock_hash_update(ctx, &listeners, &key, BPF_ANY) ? LISTENER_REFUSED_MEMORY : LISTENER_REGISTERED);
}

/* Before the handshake's last segment leaves, hence before the tunnel's side can be there. */
static __always_inline void hand_over(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct wanted *now = bpf_sk_storage_get(&wanted, sk, NULL, 0);
	struct source source = {};

	if (!now)
		return;
	source.netns = now->netns;
	source.from = local_end(ctx);
	if (bpf_map_update_elem(&original, &source, &now->peer, BPF_ANY))
		count(HANDOVER_LOST);
}

static __always_inline enum verdict take_over(struct bpf_sock_ops *ctx, struct bpf_sock *sk, __u64 netns)
{
	struct source source = { .netns = netns, .from = remote_end(ctx) };
	struct endpoint *peer = bpf_map_lookup_elem(&original, &source);
	struct endpoint copy;

	if (!peer)
		return HANDOVER_UNKNOWN;
	copy = *peer;
	bpf_map_delete_elem(&original, &source);
	return bpf_sk_storage_get(&accepted, sk, &copy, BPF_SK_STORAGE_GET_F_CREATE) ? HANDOVER_DONE : HANDOVER_LOST;
}

SEC("sockops")
int tcp_event(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct endpoint from;
	__u64 *netns;

	if (!sk)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		from = local_end(ctx);
		announce_probe(ctx, sk, &from);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == BPF_TCP_CLOSE)
			withdraw_probe(sk);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		register_listener(ctx, sk);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		hand_over(ctx, sk);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		netns = bpf_sk_storage_get(&tunnel_ports, sk, NULL, 0);
		if (netns && ctx->local_port == PORT_OUTBOUND)
			count(take_over(ctx, sk, *netns));
		break;
	}
	return 1;
}
