// SPDX-License-Identifier: GPL-2.0-only
/* Questions to name servers over UDP: as long as the tunnel listens for them in a pod, they go there, each name server's to
 * an address of its own on the pod's loopback. Whoever reads the answer is told that it comes from the server that was
 * asked. Without a listener nothing is redirected: the server that was asked answers. */
#pragma once
#include "caller.h"

static __always_inline bool dns_is_served(struct bpf_sock_addr *ctx, const struct address *at)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *listener;

	if (address_is_v4(at)) {
		tuple.ipv4.saddr = tuple.ipv4.daddr = at->word[3];
		tuple.ipv4.sport = tuple.ipv4.dport = bpf_htons(PORT_DNS);
		listener = bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, at->word, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, at->word, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = tuple.ipv6.dport = bpf_htons(PORT_DNS);
		listener = bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (listener)
		bpf_sk_release(listener);
	return listener;
}

static __always_inline bool remember_server(__u64 netns, const struct endpoint *at, const struct endpoint *server)
{
	struct pair pair = { netns, *at, 0 };
	struct endpoint *known = bpf_map_lookup_elem(&resolvers, &pair);

	if (known && endpoint_equals(known, server))
		return true;
	return !bpf_map_update_elem(&resolvers, &pair, server, BPF_ANY);
}

/* connect() and sendto(): of what leaves a captured pod for a name server. The tunnel's own questions go where they go. */
static __always_inline int capture_question(struct bpf_sock_addr *ctx, struct endpoint *to)
{
	struct endpoint at;
	struct pod *pod;
	__u64 netns;

	if (to->port != bpf_htons(PORT_DOMAIN) || address_is_loopback(&to->address))
		return PROCEED;
	netns = bpf_get_netns_cookie(ctx);
	pod = pod_of(netns);
	if (!pod || !(pod->flags & POD_CAPTURED) || by_tunnel())
		return PROCEED;
	at = endpoint_of(redirect_address(to, pod->flags & POD_PREFIX), bpf_htons(PORT_DNS));
	if (!dns_is_served(ctx, &at.address))
		return PROCEED;
	if (ctx->sk->bound_dev_if || !remember_server(netns, &at, to)) {
		count(DNS_NOT_CAPTURED);
		return PROCEED;
	}
	*to = at;
	count(DNS_CAPTURED);
	return PROCEED;
}

/* Shows the name server that was asked in the place of the address at which its questions are answered. */
static __always_inline void show_server(struct bpf_sock_addr *ctx, struct endpoint *shown)
{
	struct pair pair = { .to = *shown };
	struct endpoint *server;

	if (shown->port != bpf_htons(PORT_DNS))
		return;
	pair.netns = bpf_get_netns_cookie(ctx);
	server = bpf_map_lookup_elem(&resolvers, &pair);
	if (server)
		__builtin_memcpy(shown, server, sizeof(*shown));
}
