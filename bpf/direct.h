/* Connections between two captured pods of this node that go straight from one to the other. The tunnel says which pairs
 * may (`direct`), for the pods that it knows by their network namespaces, which nobody can forge; here a connection is held
 * against its word, announced to the other end, and told of (`events`). */
#pragma once
#include "announced.h"

enum event_kind {
	EVENT_OPENED = 1,
	EVENT_CLOSED, /* or never opened */
	EVENT_UNSEEN, /* its first segment did not come to the other pod, not as it was sent */
};

struct event {
	__u64 socket; /* cookie of the socket that made the connection */
	struct pair pair;
	struct connection connection;
	__u64 since, time; /* of the SYN and of the event, in nanoseconds since the machine started */
	__u64 sent, received; /* bytes */
	__u32 rtt; /* smoothed, in microseconds */
	__u32 retransmits; /* segments */
	__u32 kind; /* of enum event_kind */
	__u32 established;
	__u32 reset; /* EVENT_CLOSED: before the end of what its maker had to say */
	__u32 seen; /* by the other pod */
};

/* Of the kernel's structs, what is read. */
struct sock_common {
	unsigned long skc_flags;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct inet_sock {
	struct sock sk;
} __attribute__((preserve_access_index));

struct inet_connection_sock {
	struct inet_sock icsk_inet;
} __attribute__((preserve_access_index));

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 snd_una, write_seq;
	__u64 bytes_acked, bytes_received;
} __attribute__((preserve_access_index));

#define SOCK_DONE 1 /* enum sock_flags: the other end's FIN has come */

/* What the tunnel says now; it may have said otherwise a moment ago. */
static __always_inline struct allowance *allowance_of(const struct pair *pair)
{
	struct allowance *allowance = bpf_map_lookup_elem(&direct, pair);
	__u32 index = 0;
	__u64 *now = bpf_map_lookup_elem(&generation, &index);

	return allowance && now && allowance->generation == *now ? allowance : NULL;
}

/* A socket may be bound to an address already. */
static __always_inline bool is_bound_elsewhere(struct bpf_sock *sk, const struct address *from)
{
	struct address bound = sk->family == AF_INET ? address_from_v4(sk->src_ip4) : address_from_v6(sk->src_ip6);

	if (address_is_v4(&bound) ? !bound.word[3] : address_is_empty(&bound))
		return false;
	return !address_equals(&bound, from);
}

/* connect(): whether it goes straight, to what `to` is then. Else it needs the tunnel. */
static __always_inline bool goes_direct(struct bpf_sock *sk, __u64 netns, struct endpoint *to)
{
	struct announcement now = { .pair = { netns, *to, 0 }, .kind = ANNOUNCED_DIRECT };
	struct allowance *allowance = allowance_of(&now.pair);
	__u64 *owner;

	if (!allowance || is_bound_elsewhere(sk, &allowance->from))
		return false;
	now.connection.to = allowance->to;
	owner = bpf_map_lookup_elem(&addresses, &now.connection.to.address);
	if (!owner || *owner != allowance->netns || !will_announce(sk, &now))
		return false;
	*to = now.connection.to;
	return true;
}

/* Announced first, then held against the tunnel's word: whatever the tunnel withdraws, and looks for afterwards, it finds.
 * What is not announced is treated like anybody's connection. */
static __always_inline enum verdict announce_direct(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
						    struct announcement *own)
{
	struct allowance *allowance;

	own->since = bpf_ktime_get_boot_ns();
	if (!announce(ctx, own, BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG)) {
		bpf_sk_storage_delete(&announcing, sk);
		return DIRECT_LOST;
	}
	allowance = allowance_of(&own->pair);
	if (allowance && address_equals(&own->connection.from.address, &allowance->from))
		return DIRECT_ANNOUNCED;
	withdraw(own);
	bpf_sk_storage_delete(&announcing, sk);
	return DIRECT_WITHDRAWN;
}

/* Bytes of the application, without the sequence numbers of SYN and FIN. */
static __always_inline void count_bytes(struct bpf_sock *sk, struct event *event, bool closing)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	if (!tcp || !event->established)
		return;
	event->sent = tcp->bytes_acked - 1;
	event->received = tcp->bytes_received;
	if (closing && tcp->snd_una == tcp->write_seq)
		event->sent--;
	if (tcp->inet_conn.icsk_inet.sk.__sk_common.skc_flags & 1 << SOCK_DONE)
		event->received--;
}

static __always_inline void tell(struct bpf_sock_ops *ctx, struct bpf_sock *sk, const struct announcement *own,
				 enum event_kind kind, bool fin_sent, bool seen)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		count(DIRECT_NOT_TOLD);
		return;
	}
	event->socket = bpf_get_socket_cookie(ctx);
	event->pair = own->pair;
	event->connection = own->connection;
	event->since = own->since;
	event->time = bpf_ktime_get_boot_ns();
	event->sent = event->received = 0;
	event->rtt = ctx->srtt_us >> 3;
	event->retransmits = ctx->total_retrans;
	event->kind = kind;
	event->established = own->established;
	event->reset = kind == EVENT_CLOSED && !fin_sent;
	event->seen = seen;
	count_bytes(sk, event, fin_sent);
	bpf_ringbuf_submit(event, 0);
}
