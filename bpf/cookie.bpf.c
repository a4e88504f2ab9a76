// SPDX-License-Identifier: GPL-2.0-only
/* The cookie of a network namespace for user space before Linux 5.14: bind() of a UDP socket keeps it there. An object of
 * its own, which the agent attaches to the cgroup it is in. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <linux/in.h>
#include <stdbool.h>

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} cookies SEC(".maps");

SEC("cgroup/bind4")
int cookie(struct bpf_sock_addr *ctx)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);

	if (ctx->protocol == IPPROTO_UDP && ctx->sk)
		bpf_sk_storage_get(&cookies, ctx->sk, &cookie, BPF_SK_STORAGE_GET_F_CREATE);
	return true;
}

char _license[] SEC("license") = "GPL";
