// SPDX-License-Identifier: GPL-2.0-only
/* Which device a connection arrives by: Linux 5.17 tells sk_lookup. Older kernels need what is in this file. */
#pragma once
#include "maps.h"
#include <bpf/bpf_core_read.h>

struct bpf_sk_lookup_kern___device {
	int ingress_ifindex;
} __attribute__((preserve_access_index));

static __always_inline bool device_is_told(void)
{
	return bpf_core_field_exists(((struct bpf_sk_lookup_kern___device *)NULL)->ingress_ifindex);
}

/* Whether the addresses alone show that it comes by lo. The kernel drops what comes with the loopback addresses of either
 * family by another device. Those of the redirection's prefix it takes: where only the tunnel listens nothing is lost, and
 * what comes with such a source as well is answered on lo, where no socket waits for it. */
static __always_inline bool is_within(const struct address *local, const struct address *remote, __u32 port)
{
	if (!address_is_redirect(local))
		return address_is_loopback(local);
	return port == PORT_OUTBOUND || port == PORT_PENDING || address_is_redirect(remote);
}
