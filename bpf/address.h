// SPDX-License-Identifier: GPL-2.0-only
/* One form for every address: 16 bytes, an IPv4 address as v4-mapped IPv6 (::ffff:a.b.c.d). */
#pragma once
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "constants.h"

struct address {
	__be32 word[4];
};

struct endpoint {
	struct address address;
	__be16 port;
	__u16 zero; /* endpoints are compared and hashed as bytes */
};

static __always_inline struct address address_from_v4(__be32 ip)
{
	return (struct address){ { 0, 0, bpf_htonl(0xffff), ip } };
}

/* `volatile`, here and in what calls this: the verifier allows no wider load of most context fields than of 4 bytes,
 * and the compiler would merge two. */
static __always_inline struct address address_from_v6(const volatile __u32 ip[4])
{
	return (struct address){ { ip[0], ip[1], ip[2], ip[3] } };
}

static __always_inline struct endpoint endpoint_of(struct address address, __be16 port)
{
	return (struct endpoint){ address, port, 0 };
}

static __always_inline bool address_is_v4(const struct address *address)
{
	return !address->word[0] && !address->word[1] && address->word[2] == bpf_htonl(0xffff);
}

static __always_inline bool address_is_empty(const struct address *address)
{
	return !(address->word[0] | address->word[1] | address->word[2] | address->word[3]);
}

static __always_inline bool address_equals(const struct address *one, const struct address *other)
{
	return one->word[0] == other->word[0] && one->word[1] == other->word[1] && one->word[2] == other->word[2] &&
	       one->word[3] == other->word[3];
}

static __always_inline bool endpoint_equals(const struct endpoint *one, const struct endpoint *other)
{
	return address_equals(&one->address, &other->address) && one->port == other->port;
}

/* An address that never leaves the network namespace. A connect() to "any" goes to loopback, in both families. */
static __always_inline bool address_is_loopback(const struct address *address)
{
	if (address_is_v4(address))
		return !address->word[3] || bpf_ntohl(address->word[3]) >> 24 == 127;
	return !(address->word[0] | address->word[1] | address->word[2]) && bpf_ntohl(address->word[3]) <= 1;
}

/* The pod's own loopback in the family of `address`: 127.0.0.1, ::ffff:127.0.0.1 or ::1. */
static __always_inline struct address loopback_like(const struct address *address)
{
	if (address_is_v4(address))
		return address_from_v4(bpf_htonl(0x7f000001));
	return (struct address){ { 0, 0, 0, bpf_htonl(1) } };
}
