/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "punt.h"

/* Rates of ports and of tenants: package vfp's buckets, and the very same ones. The
 * table is memory of user space's too, which charges the packets that are taken to
 * it; so a rate holds for both together. A bucket is one number, its theoretical
 * arrival time, which is changed by compare and swap alone. */

enum rate_numbers {
	RATE_TICKS = 16,         /* in a nanosecond */
	RATE_FRACTION = 20,      /* bits of a tick in the cost of a byte */
	RATE_LARGEST = 72 << 10, /* bytes that a packet is charged with at most */
};

struct rate_bucket {
	__s64 due; /* ticks of the monotonic clock */
	__u64 per_byte, ahead; /* see Bucket.Terms of package vfp; 0: no limit */
};

struct rate {
	__u32 tenant; /* whose it is: an entry may be another's by now */
	__u32 port;
	__u32 next; /* the tenant's own, which a port's packets are taken out of too; 0: none */
	__u32 pad;
	struct rate_bucket out, in;
};

TABLE(rates, BPF_MAP_TYPE_ARRAY, __u32, struct rate, 1024, BPF_F_MMAPABLE);

/* cost_of gives what so many bytes cost, without what would not fit a word. */
static __always_inline __s64 cost_of(__u64 per_byte, __u32 bytes)
{
	__u64 fraction = per_byte & ((1 << RATE_FRACTION) - 1);

	return (per_byte >> RATE_FRACTION) * bytes + ((fraction * bytes + (1 << (RATE_FRACTION - 1))) >> RATE_FRACTION);
}

/* Other processors may be faster so often; then the packet is charged without a
 * look at what they did, which it had room for before them. */
enum { TRIES = 8 };

static __always_inline bool take(struct rate_bucket *b, __s64 now, __u32 bytes)
{
	__u64 per_byte = *(volatile __u64 *)&b->per_byte;
	__s64 ahead = *(volatile __u64 *)&b->ahead, cost, due, next;

	if (!per_byte)
		return true;
	cost = cost_of(per_byte, bytes);
	for (int i = 0; i < TRIES; i++) {
		due = *(volatile __s64 *)&b->due;
		next = (due > now ? due : now) + cost;
		if (next - now > ahead)
			return false;
		if (__sync_val_compare_and_swap(&b->due, due, next) == due)
			return true;
	}
	__sync_fetch_and_add(&b->due, cost);
	return true;
}

static __always_inline void give(struct rate_bucket *b, __u32 bytes)
{
	__u64 per_byte = *(volatile __u64 *)&b->per_byte;

	if (per_byte)
		__sync_fetch_and_add(&b->due, -cost_of(per_byte, bytes));
}

/* buckets_at finds the port's bucket, and its tenant's behind it. */
static __always_inline bool buckets_at(__u32 at, __u32 tenant, bool out, struct rate_bucket **own, struct rate_bucket **next)
{
	struct rate *r = bpf_map_lookup_elem(&rates, &at);

	if (!r || r->tenant != tenant)
		return false;
	*own = out ? &r->out : &r->in;
	*next = NULL;
	at = *(volatile __u32 *)&r->next;
	if (!at)
		return true;
	r = bpf_map_lookup_elem(&rates, &at);
	if (!r || r->tenant != tenant)
		return false;
	*next = out ? &r->out : &r->in;
	return true;
}

/* charge takes a packet out of the buckets at a port that has some, or out of none:
 * 0, that it is dropped, or PUNT_POLICY. */
__global int charge(__u32 at, __u32 tenant, __u32 out, __u32 bytes)
{
	struct rate_bucket *own, *next;
	__s64 now = bpf_ktime_get_ns() * RATE_TICKS;

	if (!buckets_at(at, tenant, out, &own, &next))
		return PUNT_POLICY;
	if (!take(own, now, bytes))
		return DROP_RATE_EXCEEDED;
	if (!next || take(next, now, bytes))
		return 0;
	give(own, bytes);
	return DROP_RATE_EXCEEDED;
}

/* refund puts back what charge took, of a packet that user space will charge. */
__global int refund(__u32 at, __u32 tenant, __u32 out, __u32 bytes)
{
	struct rate_bucket *own, *next;

	if (!buckets_at(at, tenant, out, &own, &next))
		return 0;
	give(own, bytes);
	if (next)
		give(next, bytes);
	return 0;
}

/* charged is what a frame of len bytes costs: Worker's charge in package dataplane. */
static __always_inline __u32 charged(__u32 gso_size, const struct headers *h, __u32 len)
{
	len += (pieces(gso_size, h) - 1) * (ETH_LEN + h->l4 - h->l3 + h->l4_len);
	return len < RATE_LARGEST ? len : RATE_LARGEST;
}
