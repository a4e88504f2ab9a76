// SPDX-License-Identifier: GPL-2.0-only
/* sendto() and recvfrom() of UDP: see dns.h. (What connect() does is in connect.bpf.c.) */
#include "dns.h"
#include "sock_addr.h"

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	struct endpoint to = read4(ctx);
	int answer = ctx->sk ? capture_question(ctx, &to) : PROCEED;

	write4(ctx, &to);
	return answer;
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	struct endpoint to = read6(ctx);
	int answer = ctx->sk ? capture_question(ctx, &to) : PROCEED;

	write6(ctx, &to);
	return answer;
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	struct endpoint from = read4(ctx);

	show_server(ctx, &from);
	write4(ctx, &from);
	return PROCEED;
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	struct endpoint from = read6(ctx);

	show_server(ctx, &from);
	write6(ctx, &from);
	return PROCEED;
}
