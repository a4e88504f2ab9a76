// SPDX-License-Identifier: GPL-2.0-only
/* All maps. bpf/layout.py names the same structs for user space; a test compares both by BTF. */
#pragma once
#include "address.h"
#include "verdicts.h"

enum pod_flag {
	POD_CAPTURED = 1, /* redirect what its applications connect to */
	POD_PREFIX = 2, /* its lo has the prefix of REDIRECT_PREFIX_0 */
};

/* Of one pod; more than any has. */
#define PROBE_PORTS 32

struct pod {
	__u32 flags; /* of enum pod_flag */
	struct address v4; /* the address that the pod's sockets are seen to have; all zero when it has none */
	struct address v6;
	__u16 probe_ports[PROBE_PORTS]; /* on which the kubelet may call it in the clear; zeros fill it up */
};

/* An application's redirected socket: what the application asked for, and has to see. */
struct wanted {
	__u64 netns; /* 0 where the tunnel need not hear of it: the connection is direct */
	struct endpoint peer;
	struct address local; /* shown in place of the loopback address; all zero when there is none to show */
};

/* A TCP connection, as the one who opens it sees it. */
struct connection {
	struct endpoint from;
	struct endpoint to;
};

/* What a pod's application asks for: the key under which it may go straight to a pod of this node. */
struct pair {
	__u64 netns;
	struct endpoint to;
	__u32 zero;
};

/* The tunnel's word that it may. Every field has to fit when the connection is made. */
struct allowance {
	__u64 generation; /* of the tunnel that says so */
	__u64 netns; /* of the pod that has the address `to` */
	struct endpoint to; /* where the connection goes; differs from what was asked for where that is a Service's */
	struct address from; /* the source address for which it holds */
	__u32 zero;
};

/* Connections that are let in by the pod at the other end, and why. */
enum announced {
	ANNOUNCED_NO_MORE,
	ANNOUNCED_PROBE,
	ANNOUNCED_DIRECT,
	ANNOUNCED_DELIVERY,
};

/* On the socket that makes such a connection. */
struct announcement {
	struct connection connection;
	struct pair pair; /* ANNOUNCED_DIRECT only, as is all that follows */
	__u64 since; /* of the SYN, in nanoseconds since the machine started */
	enum announced kind;
	__u32 established;
};

/* What the pod finds under the connection. */
struct arrival {
	enum announced kind;
	__u32 arrived; /* whether it has looked */
};

/* Where a redirected connection comes from, as the listener in the same namespace sees it. */
struct source {
	__u64 netns;
	struct endpoint from;
	struct endpoint at; /* one source port serves connections to several */
};

/* Maps are weak because each program file includes them all; the linker makes them one. */

/* Written by the agent: who is a pod, which addresses are its own, who is the tunnel. A network namespace is known by
 * its cookie, which is unique for as long as the machine runs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct pod);
} pods SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct address);
	__type(value, __u64);
} addresses SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u64); /* a cgroup's id */
	__type(value, __u32); /* the process by which the agent knew it */
} tunnels SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u64); /* a cgroup's id */
	__type(value, __u32);
} kubelets SEC(".maps") __weak;

/* Written by the kernel: the tunnel's listener for what arrives in the clear, by the pod's netns cookie. User space
 * cannot put a socket back, so this map and `tunnel_ports` must keep their layout through all versions. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} listeners SEC(".maps") __weak;

/* Likewise, and as unchangeable: the one that is bound to the pod's device, if there is one. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} device_listeners SEC(".maps") __weak;

/* Likewise, and as unchangeable: the tunnel's socket that takes the SYNs of pending connections. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} pending_listeners SEC(".maps") __weak;

/* On the tunnel's sockets of these ports, and inherited by what they accept: the netns cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, __u64);
} tunnel_ports SEC(".maps") __weak;

/* The way of an original destination: on the application's socket; in between, while the handshake ends; on the
 * socket that the tunnel accepted. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct wanted);
} wanted SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct source);
	__type(value, struct endpoint);
} original SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct endpoint);
} accepted SEC(".maps") __weak;

/* The way of what is announced: on the socket that connects; and for all pods to see, from before its SYN leaves until
 * it closes. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct announcement);
} announcing SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct connection);
	__type(value, struct arrival);
} announced SEC(".maps") __weak;

/* Written by the tunnel: which pairs of pods need it no more. What other generations have written does not count. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct pair);
	__type(value, struct allowance);
} direct SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} generation SEC(".maps") __weak;

/* Read by the tunnel: what became of direct connections, each a struct event of events.h. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19); /* bytes; the tunnel has them in its memory */
} events SEC(".maps") __weak;

/* Read by the tunnel: pending connections, each a struct pending_event of pending.h. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18); /* bytes */
} pending SEC(".maps") __weak;

/* Written by the tunnel: what has answered when it was asked, and when that was used last, in nanoseconds since the
 * machine started. What finds no room here is asked again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct pair);
	__type(value, __u64);
} answering SEC(".maps") __weak;

/* Read by the tunnel: the name server that a pod's application asks where its question goes to this address. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct pair);
	__type(value, struct endpoint);
} resolvers SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps") __weak;
