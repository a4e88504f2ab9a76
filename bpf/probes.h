/* The kubelet's probes. One is known by the process that connects, on the host; it is announced by both its ends before
 * its first segment leaves, and let in by the pod for as long as it lasts. Nothing in a packet changes, so there is
 * nothing in a packet that another could set. As long as the entry is there, the kubelet's socket has the port. A SYN
 * that is forged at this very time gets an answer, but the kubelet's host gets it, and resets what it did not open. */
#pragma once
#include "maps.h"

/* By the cgroup itself: below the kubelet's there may be the pods'. */
static __always_inline bool by_kubelet(void)
{
	__u64 cgroup = bpf_get_current_cgroup_id();

	return bpf_map_lookup_elem(&kubelets, &cgroup);
}

static __always_inline bool is_declared(const struct pod *pod, __u32 port)
{
	for (int i = 0; i < PROBE_PORTS; i++)
		if (pod->probe_ports[i] == port)
			return true;
	return false;
}

/* connect(): of what the kubelet calls, this are probes: the declared ports of the pods that are captured here. */
static __always_inline void recognise_probe(struct bpf_sock *sk, const struct endpoint *to)
{
	struct connection probe = { .to = *to };
	__u64 *netns = bpf_map_lookup_elem(&addresses, &to->address);
	struct pod *pod = netns ? bpf_map_lookup_elem(&pods, netns) : NULL;

	if (!pod || !(pod->flags & POD_CAPTURED))
		return;
	if (!is_declared(pod, bpf_ntohs(to->port)))
		count(PROBE_NOT_DECLARED);
	else if (!bpf_sk_storage_get(&probing, sk, &probe, BPF_SK_STORAGE_GET_F_CREATE))
		count(PROBE_LOST);
}

/* The socket has its port now, and has sent nothing. */
static __always_inline void announce_probe(struct bpf_sock_ops *ctx, struct bpf_sock *sk, const struct endpoint *from)
{
	struct connection *probe = bpf_sk_storage_get(&probing, sk, NULL, 0);
	__u32 arrived = 0;

	if (!probe)
		return;
	probe->from = *from;
	if (bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG) ||
	    bpf_map_update_elem(&probes, probe, &arrived, BPF_ANY))
		count(PROBE_LOST);
	else
		count(PROBE_ANNOUNCED);
}

/* The socket closes, and still has its port. Not before: where the application's queue is full, the kernel answers with
 * a SYN cookie, and it is the handshake's last segment that looks for a listener. */
static __always_inline void withdraw_probe(struct bpf_sock *sk)
{
	struct connection *probe = bpf_sk_storage_get(&probing, sk, NULL, 0);
	__u32 *arrived = probe ? bpf_map_lookup_elem(&probes, probe) : NULL;

	if (!arrived)
		return;
	if (!*arrived)
		count(PROBE_NOT_SEEN);
	bpf_map_delete_elem(&probes, probe);
}

/* In the pod: whether this is one. */
static __always_inline bool is_probe(const struct connection *arriving)
{
	__u32 *arrived = bpf_map_lookup_elem(&probes, arriving);

	if (arrived)
		*arrived = 1;
	return arrived;
}
