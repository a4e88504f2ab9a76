// SPDX-License-Identifier: GPL-2.0-only
/* getpeername(), getsockname(): the application of a redirected socket sees the peer that it asked for, and its own
 * pod's address in place of the loopback's. */
#include "dns.h"
#include "sock_addr.h"

static __always_inline struct wanted *wanted_of(struct bpf_sock_addr *ctx)
{
	return ctx->sk ? bpf_sk_storage_get(&wanted, ctx->sk, NULL, 0) : NULL;
}

static __always_inline struct endpoint true_peer(struct bpf_sock_addr *ctx, struct endpoint shown)
{
	struct wanted *now = wanted_of(ctx);

	if (ctx->protocol == IPPROTO_UDP)
		show_server(ctx, &shown);
	return now ? now->peer : shown;
}

/* A socket that was bound before it connected keeps the address that it chose. */
static __always_inline struct endpoint true_local(struct bpf_sock_addr *ctx, struct endpoint shown)
{
	struct wanted *now = wanted_of(ctx);

	if (now && address_is_loopback(&shown.address) && !address_is_empty(&now->local))
		shown.address = now->local;
	return shown;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	struct endpoint name = true_peer(ctx, read4(ctx));

	write4(ctx, &name);
	return PROCEED;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	struct endpoint name = true_peer(ctx, read6(ctx));

	write6(ctx, &name);
	return PROCEED;
}

SEC("cgroup/getsockname4")
int getsockname4(struct bpf_sock_addr *ctx)
{
	struct endpoint name = true_local(ctx, read4(ctx));

	write4(ctx, &name);
	return PROCEED;
}

SEC("cgroup/getsockname6")
int getsockname6(struct bpf_sock_addr *ctx)
{
	struct endpoint name = true_local(ctx, read6(ctx));

	write6(ctx, &name);
	return PROCEED;
}
