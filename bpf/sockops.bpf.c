// SPDX-License-Identifier: GPL-2.0-only
/* The life of a TCP socket: listeners of the tunnel register, original destinations change hands, pending connections are
 * told of, direct ones and the kubelet's probes are announced. */
#include "device.h"
#include "direct.h"
#include "events.h"
#include "pending.h"
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
	long failed;
	__u64 key;

	if (!netns)
		return;
	key = *netns;
	if (ctx->local_port == PORT_PENDING)
		failed = bpf_sock_hash_update(ctx, &pending_listeners, &key, BPF_ANY);
	else if (ctx->local_port == PORT_INBOUND)
		failed = sk->bound_dev_if ? bpf_sock_hash_update(ctx, &device_listeners, &key, BPF_ANY) :
					    bpf_sock_hash_update(ctx, &listeners, &key, BPF_ANY);
	else
		return;
	count(failed ? LISTENER_REFUSED_MEMORY : LISTENER_REGISTERED);
}

/* Before the tunnel's side can be there: before the handshake's last segment leaves; of a pending connection, before its
 * first does. */
static __always_inline void hand_over(struct bpf_sock_ops *ctx, const struct wanted *now)
{
	struct source source = {};

	if (!now || !now->netns)
		return;
	source.netns = now->netns;
	source.from = local_end(ctx);
	source.at = remote_end(ctx);
	if (bpf_map_update_elem(&original, &source, &now->peer, BPF_ANY))
		count(HANDOVER_LOST);
}

static __always_inline enum verdict take_over(struct bpf_sock_ops *ctx, struct bpf_sock *sk, __u64 netns)
{
	struct source source = { .netns = netns, .from = remote_end(ctx), .at = local_end(ctx) };
	struct endpoint *peer = bpf_map_lookup_elem(&original, &source);
	struct endpoint copy;

	if (!peer)
		return HANDOVER_UNKNOWN;
	copy = *peer;
	bpf_map_delete_elem(&original, &source);
	return bpf_sk_storage_get(&accepted, sk, &copy, BPF_SK_STORAGE_GET_F_CREATE) ? HANDOVER_DONE : HANDOVER_LOST;
}

/* The connection of the tunnel's to the pod's own application. It bears the addresses of one that came by another device, and
 * may bear its ports: bound to lo, it is no other's to the kernel. A listener's own device stays. Its announcement, if it
 * needed one, is not needed any more: the client that has the address may take the port for itself. */
static __always_inline void keep_apart(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__be32 lo = bpf_htonl('l' << 24 | 'o' << 16); /* a string would be a map of its own */

	if (sk->mark != MARK_DELIVERY)
		return;
	if (!sk->bound_dev_if)
		bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTODEVICE, &lo, sizeof(lo));
	if (!device_is_told()) {
		struct connection arrived = { .from = remote_end(ctx), .to = local_end(ctx) };

		bpf_map_delete_elem(&announced, &arrived);
	}
}

#define PENDING_CALLBACKS (BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG)

/* Not inlined: in its BTF a test finds the layout of what is told. */
static __noinline int tell_pending(struct bpf_sock_ops *ctx, struct pending_event *event)
{
	event->socket = bpf_get_socket_cookie(ctx);
	return bpf_ringbuf_output(&pending, event, sizeof(*event), 0) ? count(PENDING_NOT_TOLD) : 0;
}

static __always_inline void ask(struct bpf_sock_ops *ctx, const struct wanted *now, __u32 sequence)
{
	struct pending_event event = {
		.netns = now->netns,
		.from = local_end(ctx),
		.at = remote_end(ctx),
		.to = now->peer,
		.sequence = sequence,
		.kind = PENDING_BEGINS,
	};

	hand_over(ctx, now);
	tell_pending(ctx, &event);
}

/* The sequence number is not in the context yet. */
static __always_inline void ask_first(struct bpf_sock_ops *ctx, struct bpf_sock *sk, const struct wanted *now)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | PENDING_CALLBACKS);
	if (tcp)
		ask(ctx, now, tcp->write_seq);
}

static __always_inline void ask_no_more(struct bpf_sock_ops *ctx, const struct wanted *now)
{
	struct source source = { .netns = now->netns, .from = local_end(ctx), .at = remote_end(ctx) };
	struct pending_event event = { .netns = now->netns, .kind = PENDING_ENDS };

	bpf_map_delete_elem(&original, &source);
	tell_pending(ctx, &event);
}

static __always_inline void begin(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct announcement *own = announcement_of(sk);
	struct wanted *now = pending_of(ctx, sk);

	if (now)
		ask_first(ctx, sk, now);
	if (!own)
		return;
	own->connection.from = local_end(ctx);
	if (own->kind == ANNOUNCED_DIRECT)
		count(announce_direct(ctx, sk, own));
	else if (own->kind == ANNOUNCED_PROBE)
		announce_probe(ctx, own);
	else
		announce(ctx, own, BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* The tunnel takes the pair back: the way that the tunnel takes itself may be open. */
static __always_inline void miss(struct bpf_sock_ops *ctx, struct bpf_sock *sk, const struct announcement *own)
{
	count(DIRECT_NOT_SEEN);
	tell(ctx, sk, own, EVENT_UNSEEN, false);
}

static __always_inline void establish(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct announcement *own = announcement_of(sk);
	struct wanted *now = bpf_sk_storage_get(&wanted, sk, NULL, 0);

	if (pending_of(ctx, sk))
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~PENDING_CALLBACKS);
	else
		hand_over(ctx, now);
	if (!own || own->kind != ANNOUNCED_DIRECT)
		return;
	own->established = 1;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_RETRANS_CB_FLAG);
	tell(ctx, sk, own, EVENT_OPENED, true);
	/* Somebody has answered who is not the pod: its source was translated on the way. */
	if (!has_arrived(own))
		miss(ctx, sk, own);
}

static __always_inline void retransmit(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct announcement *own = announcement_of(sk);
	struct wanted *now = pending_of(ctx, sk);

	if (now) {
		if (ctx->state == BPF_TCP_SYN_SENT)
			ask(ctx, now, ctx->snd_una);
		return;
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_RETRANS_CB_FLAG);
	if (own && !own->established && !has_arrived(own))
		miss(ctx, sk, own);
}

static __always_inline void end(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct announcement *own = announcement_of(sk);
	struct wanted *now = pending_of(ctx, sk);
	bool seen;

	if (now)
		ask_no_more(ctx, now);
	if (!own || own->kind == ANNOUNCED_NO_MORE)
		return;
	if (own->kind == ANNOUNCED_PROBE)
		return end_probe(own);
	if (own->kind == ANNOUNCED_DELIVERY)
		return withdraw(own);
	seen = own->established || has_arrived(own);
	withdraw(own);
	tell(ctx, sk, own, EVENT_CLOSED, seen);
	own->kind = ANNOUNCED_NO_MORE; /* deleting it here would cost more than all the rest: it goes with the socket */
}

/* The tunnel's side is there. */
static __always_inline void accept(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__u64 *netns = bpf_sk_storage_get(&tunnel_ports, sk, NULL, 0);

	if (netns)
		count(take_over(ctx, sk, *netns));
}

SEC("sockops")
int tcp_event(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		begin(ctx, sk);
		break;
	case BPF_SOCK_OPS_RETRANS_CB:
		retransmit(ctx, sk);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == BPF_TCP_CLOSE)
			end(ctx, sk);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		register_listener(ctx, sk);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		if (ctx->local_port == PORT_PENDING)
			accept(ctx, sk);
		else
			establish(ctx, sk);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		keep_apart(ctx, sk);
		if (ctx->local_port == PORT_OUTBOUND)
			accept(ctx, sk);
		break;
	}
	return 1;
}
