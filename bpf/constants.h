// SPDX-License-Identifier: GPL-2.0-only
/* Numbers that the tunnel, the agent and other people's programs know too. */
#pragma once

/* The tunnel's listeners in each pod's network namespace; those that Istio has too are the same. */
#define PORT_OUTBOUND 15001 /* what the pod's applications connect to, rewritten */
#define PORT_INBOUND 15006  /* what arrives for the pod in the clear */
#define PORT_HBONE 15008    /* what arrives inside mutual TLS; it needs no steering */
#define PORT_PENDING 15003  /* what applications connect to until it is known whether the other end accepts; ours alone */

#define PORT_DNS 15053	    /* what the pod's applications ask a name server over UDP, while the tunnel answers */

/* Where name servers listen. */
#define PORT_DOMAIN 53

/* On a connection of the tunnel to the pod's own application. agent/node/routing.py keeps such a connection on lo. */
#define MARK_DELIVERY 0x5741

/* fd29:fca8:b7bf::/64, a prefix of our own (RFC 4193), of which every address is the pod's lo. agent/node/routing.py. */
#define REDIRECT_PREFIX_0 0xfd29fca8
#define REDIRECT_PREFIX_1 0xb7bf0000

#define LOOPBACK_IFINDEX 1

/* UAPI values whose headers do not go together with <linux/bpf.h> for this target. */
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define AF_INET 2
#define AF_INET6 10
#define SOL_IP 0
#define SOL_SOCKET 1
#define SOL_IPV6 41
#define SO_BINDTODEVICE 25
#define SO_MARK 36
#define SO_ORIGINAL_DST 80 /* the same number at SOL_IP and at SOL_IPV6 */
