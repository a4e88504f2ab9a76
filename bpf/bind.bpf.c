// SPDX-License-Identifier: GPL-2.0-only
/* bind(): the tunnel's ports inside a pod are the tunnel's alone. Its listeners are known by what is kept on them. */
#include "caller.h"

static __always_inline int decide_dns(__u64 netns)
{
	if (!pod_of(netns) || by_tunnel())
		return PROCEED;
	count(BIND_REFUSED_RESERVED);
	return REFUSE;
}

static __always_inline int decide(struct bpf_sock_addr *ctx)
{
	__u16 port = bpf_ntohs(ctx->user_port);
	__u64 netns;

	if (ctx->protocol == IPPROTO_UDP && port == PORT_DNS)
		return decide_dns(bpf_get_netns_cookie(ctx));
	if (ctx->protocol != IPPROTO_TCP || !ctx->sk)
		return PROCEED;
	if (port != PORT_OUTBOUND && port != PORT_INBOUND && port != PORT_HBONE && port != PORT_PENDING)
		return PROCEED;
	netns = bpf_get_netns_cookie(ctx);
	if (!pod_of(netns))
		return PROCEED;
	if (!by_tunnel()) {
		count(BIND_REFUSED_RESERVED);
		return REFUSE;
	}
	if (!bpf_sk_storage_get(&tunnel_ports, ctx->sk, &netns, BPF_SK_STORAGE_GET_F_CREATE)) {
		count(LISTENER_REFUSED_MEMORY);
		return REFUSE;
	}
	return PROCEED;
}

SEC("cgroup/bind4")
int bind4(struct bpf_sock_addr *ctx)
{
	return decide(ctx);
}

SEC("cgroup/bind6")
int bind6(struct bpf_sock_addr *ctx)
{
	return decide(ctx);
}
