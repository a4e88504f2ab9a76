// SPDX-License-Identifier: GPL-2.0-only
/* The address that a socket call names: out of the hook's context in the one form, and back. */
#pragma once
#include "address.h"

static __always_inline struct endpoint read4(struct bpf_sock_addr *ctx)
{
	return endpoint_of(address_from_v4(ctx->user_ip4), ctx->user_port);
}

static __always_inline struct endpoint read6(struct bpf_sock_addr *ctx)
{
	return endpoint_of(address_from_v6(ctx->user_ip6), ctx->user_port);
}

static __always_inline void write4(struct bpf_sock_addr *ctx, const struct endpoint *name)
{
	ctx->user_ip4 = name->address.word[3];
	ctx->user_port = name->port;
}

static __always_inline void write6(struct bpf_sock_addr *ctx, const struct endpoint *name)
{
	ctx->user_ip6[0] = name->address.word[0];
	ctx->user_ip6[1] = name->address.word[1];
	ctx->user_ip6[2] = name->address.word[2];
	ctx->user_ip6[3] = name->address.word[3];
	ctx->user_port = name->port;
}
