// SPDX-License-Identifier: GPL-2.0-only
/* What becomes of direct connections, told to the tunnel as it happens. */
#pragma once
#include "maps.h"

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
	enum event_kind kind;
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

/* Bytes of the application, without the sequence numbers of SYN and FIN. Not inlined, as the next: in their BTF a test finds
 * the layout of what is told. */
static __noinline int count_bytes(struct bpf_sock *sk, struct event *event, bool fin_sent)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	if (!tcp || !event->established)
		return 0;
	event->sent = tcp->bytes_acked - 1;
	event->received = tcp->bytes_received;
	if (fin_sent && tcp->snd_una == tcp->write_seq)
		event->sent--;
	if (tcp->inet_conn.icsk_inet.sk.__sk_common.skc_flags & 1 << SOCK_DONE)
		event->received--;
	return 0;
}

/* When it closes, the socket has still the state before. */
static __noinline int tell(struct bpf_sock_ops *ctx, struct bpf_sock *sk, const struct announcement *own,
			   enum event_kind kind, bool seen)
{
	bool fin_sent = sk->state != BPF_TCP_ESTABLISHED && sk->state != BPF_TCP_CLOSE_WAIT;
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		return count(DIRECT_NOT_TOLD);
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
	return 0;
}
