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

static __always_inline bool address_is_redirect(const struct address *address)
{
	return address->word[0] == bpf_htonl(REDIRECT_PREFIX_0) && address->word[1] == bpf_htonl(REDIRECT_PREFIX_1);
}

/* An address that never leaves the network namespace. A connect() to "any" goes to loopback, in both families. */
static __always_inline bool address_is_loopback(const struct address *address)
{
	if (address_is_v4(address))
		return !address->word[3] || bpf_ntohl(address->word[3]) >> 24 == 127;
	if (address_is_redirect(address))
		return true;
	return !(address->word[0] | address->word[1] | address->word[2]) && bpf_ntohl(address->word[3]) <= 1;
}

/* Every bit of the result depends on every bit of `h` (the last step of MurmurHash3). */
static __always_inline __u64 mix(__u64 h)
{
	h = (h ^ h >> 33) * 0xff51afd7ed558ccd;
	h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53;
	return h ^ h >> 33;
}

/* The pod's own loopback for what asks for `to`: in 127.0.0.0/8, v4-mapped or not, or in the prefix of REDIRECT_PREFIX_0.
 * By the hash of what is asked for, so that one source port serves a connection to each destination, as it does without us.
 * Not the first and the last of 127.0.0.0/8, which are broadcast addresses. Without `prefix` IPv6 has ::1 alone. */
static __always_inline struct address redirect_address(const struct endpoint *to, bool prefix)
{
	const __be32 *word = to->address.word;
	__u64 hash = mix(mix(mix((__u64)word[0] << 32 | word[1]) ^ ((__u64)word[2] << 32 | word[3])) ^ to->port);

	if (address_is_v4(&to->address))
		return address_from_v4(bpf_htonl(0x7f000000 | (hash % 0xfffffe + 1)));
	if (!prefix)
		return (struct address){ { 0, 0, 0, bpf_htonl(1) } };
	return (struct address){ { bpf_htonl(REDIRECT_PREFIX_0), bpf_htonl(REDIRECT_PREFIX_1), hash >> 32, hash } };
}
