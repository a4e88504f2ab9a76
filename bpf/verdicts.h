// SPDX-License-Identifier: GPL-2.0-only
/* What was decided about a connection, and why. Every decision is counted; user space reads the names from BTF. */
#pragma once
#include <stdbool.h>

/* What a program of a cgroup answers: the call fails with EPERM, or it goes on. */
#define REFUSE 0
#define PROCEED 1

enum verdict {
	/* An application in a captured pod connects. */
	CONNECT_CAPTURED,	  /* redirected to the tunnel */
	CONNECT_PENDING,	  /* redirected likewise, and waits for what the other end says */
	CONNECT_DIRECT,		  /* passed: to a pod of this node, as the tunnel has allowed */
	CONNECT_LOOPBACK,	  /* passed: it stays inside the pod */
	CONNECT_OWN,		  /* passed: to the pod's own address, it stays inside as well */
	CONNECT_REFUSED_MEMORY,	  /* refused: no room to remember where it wanted to go */
	CONNECT_REFUSED_DEVICE,	  /* refused: bound to a device from which it cannot be freed */

	/* An application in a captured pod asks a name server over UDP. */
	DNS_CAPTURED,		  /* redirected to the tunnel, which answers or passes it on */
	DNS_NOT_CAPTURED,	  /* passed: no room to remember whom it asks, or bound to a device */

	/* The tunnel connects from inside a pod. */
	CONNECT_DELIVERY,	  /* marked: to the pod's own application */
	CONNECT_TUNNEL,		  /* passed: to anywhere else */
	CONNECT_REFUSED_MARK,	  /* refused: the mark could not be set */

	/* A captured connection meets the tunnel's listener. */
	HANDOVER_DONE,		  /* the tunnel can ask for the original destination */
	HANDOVER_LOST,		  /* no room to hand the original destination over */
	HANDOVER_UNKNOWN,	  /* nobody redirected it: the pod called the port itself */

	/* A pending connection is about to send its SYN, once more perhaps, or has ended. */
	PENDING_NOT_TOLD,	  /* no room to tell the tunnel: it is told with the next SYN */

	/* A direct connection has its source port, and is about to be sent. */
	DIRECT_ANNOUNCED,	  /* the other pod lets it in */
	DIRECT_WITHDRAWN,	  /* no longer allowed, or from another address: treated like anybody's connection */
	DIRECT_LOST,		  /* no room to announce it: likewise */
	DIRECT_NOT_SEEN,	  /* announced, but never came to the pod: lost, refused, or its source was translated */
	DIRECT_NOT_TOLD,	  /* no room to tell the tunnel that it has opened or closed */

	/* The kubelet connects to a captured pod. */
	PROBE_ANNOUNCED,	  /* to a port that is declared for probes: the pod lets it in */
	PROBE_NOT_DECLARED,	  /* to another one: it is treated like anybody's connection */
	PROBE_LOST,		  /* no room to announce it: likewise */
	PROBE_NOT_SEEN,		  /* announced, but never came to the pod: lost, or its source was translated */

	/* A process listens on one of the tunnel's ports inside a pod. */
	LISTENER_REGISTERED,	  /* the tunnel's: what arrives for the pod goes there from now on */
	LISTENER_REFUSED_MEMORY,  /* the tunnel's, but there was no room to register it */
	BIND_REFUSED_RESERVED,	  /* refused: the pod's own process may not take the tunnel's port */

	/* A connection arrives for a captured pod. */
	INBOUND_STEERED,	  /* to the tunnel's listener for what comes in the clear */
	INBOUND_HBONE,		  /* passed: to the tunnel's listener for mutual TLS */
	INBOUND_DIRECT,		  /* passed: direct from another pod of this node, to the application */
	INBOUND_PROBE,		  /* passed: a probe of the kubelet's, to the application */
	INBOUND_DELIVERY,	  /* passed: the tunnel's delivery to a listener that is bound to a device */
	INBOUND_LOOPBACK,	  /* passed: the pod's own, or the tunnel's delivery */
	INBOUND_OWN,		  /* passed: the pod's own, from one of its addresses to another */
	INBOUND_REFUSED_NO_TUNNEL, /* refused: no tunnel listens in this pod */
	INBOUND_REFUSED_GIVEN_UP, /* refused: the tunnel's answer to a connect() that is not pending any more */
	INBOUND_REFUSED_ADDRESS,  /* refused: not an address that the agent knows of this pod */

	VERDICTS, /* how many there are */
};

static inline bool is_refusal(enum verdict verdict)
{
	switch (verdict) {
	case CONNECT_REFUSED_MEMORY:
	case CONNECT_REFUSED_DEVICE:
	case CONNECT_REFUSED_MARK:
	case LISTENER_REFUSED_MEMORY:
	case BIND_REFUSED_RESERVED:
	case INBOUND_REFUSED_NO_TUNNEL:
	case INBOUND_REFUSED_GIVEN_UP:
	case INBOUND_REFUSED_ADDRESS:
		return true;
	default:
		return false;
	}
}

/* Verdict counters are per CPU and only ever grow. (In verdicts.bpf.c.) */
int count(enum verdict verdict);
