// SPDX-License-Identifier: GPL-2.0-only
/* connect(): an application's is redirected to the tunnel's listener on the pod's own loopback.
 *
 * An MPTCP socket arrives here as its first subflow, a TCP socket; a TCP Fast Open sendto() arrives like a connect().
 */
#include <linux/bpf.h> /* before libbpf 1.5's headers, which need its types */
#include <bpf/bpf_core_read.h>

#include "caller.h"
#include "device.h"
#include "direct.h"
#include "dns.h"
#include "pending.h"
#include "probes.h"
#include "sock_addr.h"

/* The MPTCP socket to which a subflow belongs, NULL where there is none or the kernel is older than 5.19. It is the
 * one that the application asks for its peer. */
static __always_inline struct mptcp_sock *mptcp_of(struct bpf_sock *sk)
{
	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_skc_to_mptcp_sock))
		return NULL;
	return bpf_skc_to_mptcp_sock(sk);
}

/* A socket can be disconnected and connected again, elsewhere. */
static __always_inline void forget(struct bpf_sock *sk)
{
	struct mptcp_sock *mptcp = mptcp_of(sk);

	bpf_sk_storage_delete(&announcing, sk);
	bpf_sk_storage_delete(&wanted, sk);
	if (mptcp)
		bpf_sk_storage_delete(&wanted, mptcp);
}

static __always_inline bool remember_on(void *sk, const struct wanted *now)
{
	struct wanted *kept = bpf_sk_storage_get(&wanted, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (kept)
		*kept = *now;
	return kept;
}

static __always_inline bool remember(struct bpf_sock *sk, const struct wanted *now)
{
	struct mptcp_sock *mptcp = mptcp_of(sk);

	return remember_on(sk, now) && (!mptcp || remember_on(mptcp, now));
}

/* From a socket bound to eth0 there is no way to the loopback. */
static __always_inline bool free_from_device(struct bpf_sock_addr *ctx, struct bpf_sock *sk)
{
	char none = 0;

	return !sk->bound_dev_if || !bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTODEVICE, &none, sizeof(none));
}

/* From linux/tcp.h, which is not a stable interface: BTF says where these are. */
struct tcp_sock {
	void *fastopen_req;
	__u8 fastopen_connect : 1;
} __attribute__((preserve_access_index));

/* Whether the outcome of a connect() may be told once it is known. A subflow of MPTCP, and a SYN with bytes in it (TCP Fast
 * Open, RFC 7413), are answered by a listener only. */
static __always_inline bool may_wait(struct bpf_sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	return !mptcp_of(sk) && tcp && !tcp->fastopen_req && !BPF_CORE_READ_BITFIELD(tcp, fastopen_connect);
}

static __always_inline enum verdict capture(struct bpf_sock_addr *ctx, struct bpf_sock *sk, __u64 netns,
					    const struct pod *pod, struct endpoint *to)
{
	struct wanted now = { .peer = *to };
	bool pending;

	forget(sk);
	if (address_is_loopback(&to->address))
		return CONNECT_LOOPBACK;
	if (is_own(netns, &to->address))
		return CONNECT_OWN;
	if (goes_direct(sk, netns, to))
		return endpoint_equals(to, &now.peer) || remember(sk, &now) ? CONNECT_DIRECT : CONNECT_REFUSED_MEMORY;
	now.netns = netns;
	now.local = address_is_v4(&to->address) ? pod->v4 : pod->v6;
	if (!remember(sk, &now))
		return CONNECT_REFUSED_MEMORY;
	if (!free_from_device(ctx, sk))
		return CONNECT_REFUSED_DEVICE;
	pending = may_wait(sk) && is_to_wait(netns, to);
	*to = endpoint_of(redirect_address(to, pod->flags & POD_PREFIX),
			  bpf_htons(pending ? PORT_PENDING : PORT_OUTBOUND));
	return pending ? CONNECT_PENDING : CONNECT_CAPTURED;
}

/* The mark keeps a delivery to the pod's own application on lo, where it is not captured once more. Any other mark
 * would be routed by rules that are not ours. A pod that calls itself through HBONE is no delivery. One that is bound to a
 * device, for a listener that is, seems to come by it: the pod has to be told. So it has where no device is seen. */
static __always_inline enum verdict mark(struct bpf_sock_addr *ctx, struct bpf_sock *sk, __u64 netns,
					 const struct endpoint *to)
{
	bool delivery = is_own(netns, &to->address) && to->port != bpf_htons(PORT_HBONE);
	__u32 mark = delivery ? MARK_DELIVERY : 0;
	struct announcement told = { .connection.to = *to, .kind = ANNOUNCED_DELIVERY };

	if (sk->mark != mark && bpf_setsockopt(ctx, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)))
		return CONNECT_REFUSED_MARK;
	if (delivery && (sk->bound_dev_if || !device_is_told()) && !will_announce(sk, &told))
		return CONNECT_REFUSED_MEMORY;
	return delivery ? CONNECT_DELIVERY : CONNECT_TUNNEL;
}

/* Whether the connection may proceed, to what `to` is then. */
static __always_inline int decide(struct bpf_sock_addr *ctx, struct endpoint *to)
{
	struct bpf_sock *sk = ctx->sk;
	enum verdict verdict;
	struct pod *pod;
	__u64 netns;

	if (ctx->protocol == IPPROTO_UDP && sk)
		return capture_question(ctx, to);
	if (ctx->protocol != IPPROTO_TCP || !sk)
		return PROCEED;
	netns = bpf_get_netns_cookie(ctx);
	pod = pod_of(netns);
	if (pod && by_tunnel())
		verdict = mark(ctx, sk, netns, to);
	else if (pod && pod->flags & POD_CAPTURED)
		verdict = capture(ctx, sk, netns, pod, to);
	else {
		forget(sk);
		if (by_kubelet())
			recognise_probe(sk, to);
		return PROCEED;
	}
	count(verdict);
	return is_refusal(verdict) ? REFUSE : PROCEED;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct endpoint to = read4(ctx);
	int answer = decide(ctx, &to);

	write4(ctx, &to);
	return answer;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct endpoint to = read6(ctx);
	int answer = decide(ctx, &to);

	write6(ctx, &to);
	return answer;
}
