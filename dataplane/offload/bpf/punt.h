/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "headers.h"

/* How packets end here: counted and dropped, or taken to user space.
 *
 * To user space they go over a link of their own, whose other end it reads,
 * behind a header in the place of an Ethernet one:
 *
 *	 0         1         2         3         4                   8                   12        14
 *	+---------+---------+---------+---------+-------------------+-------------------+---------+---
 *	| version | why     | from    | queue   | interface index   | tenant            | 0x88b5  | the packet as it came
 *	+---------+---------+---------+---------+-------------------+-------------------+---------+---
 *
 * in the byte order of the machine, but for the EtherType (IEEE 802 local
 * experimental). Each tenant may send so many a second (the generic cell rate
 * algorithm), in two queues: what is out of the ordinary, and packets like others
 * that user space has to forward: of ports whose layers it has, or of a form that
 * cannot be made here. */

enum meta_numbers {
	META_VERSION = 1,
	FROM_FABRIC = 1,
	FROM_PORT = 2,
	QUEUE_ODD = 0,
	QUEUE_BULK = 1,
	ETH_P_LOCAL = 0x88b5,
};

struct meta {
	__u8 version;
	__u8 why;
	__u8 from;
	__u8 queue;
	__u32 ifindex;
	__u32 tenant;
	__be16 ethertype;
} __packed;

/* What a test that runs a program asks it afterwards. Nothing else does. */
enum action { ACTION_PASS = 1, ACTION_DROP, ACTION_PUNT, ACTION_PORT, ACTION_FABRIC, ACTION_UPLINK };

struct outcome {
	__u32 action;
	__s32 reason; /* a drop reason, or of enum punt */
	__u32 vsid;
	__u32 ifindex;
};

TABLE(outcomes, BPF_MAP_TYPE_ARRAY, __u32, struct outcome, 1, 0);

const volatile bool observed = false;

static __always_inline void observe(enum action action, int reason, __u32 vsid, __u32 ifindex)
{
	__u32 zero = 0;
	struct outcome *o;

	if (!observed)
		return;
	o = bpf_map_lookup_elem(&outcomes, &zero);
	if (!o)
		return;
	o->action = action;
	o->reason = reason;
	o->vsid = vsid;
	o->ifindex = ifindex;
}

static __always_inline void count_event(__u32 vsid, __u32 event)
{
	struct event_key key = { .vsid = vsid, .event = event };
	__u64 *n = bpf_map_lookup_elem(&events, &key), one = 1;

	if (n) {
		*n += 1;
		return;
	}
	if (bpf_map_update_elem(&events, &key, &one, BPF_NOEXIST) == 0)
		return;
	/* Another processor's first packet, or no room: then it is nobody's. */
	n = bpf_map_lookup_elem(&events, &key);
	if (!n && vsid) {
		key.vsid = 0;
		n = bpf_map_lookup_elem(&events, &key);
	}
	if (n)
		*n += 1;
}

static __always_inline void add(struct count *c, __u64 packets, __u64 bytes)
{
	c->packets += packets;
	c->bytes += bytes;
}

static __always_inline struct traffic *traffic_of(__u32 slot)
{
	return bpf_map_lookup_elem(&traffic, &slot);
}

__global int drop_packet(__u32 vsid, int reason)
{
	count_event(vsid, reason);
	observe(ACTION_DROP, reason, vsid, 0);
	return TC_ACT_SHOT;
}

static __always_inline struct settings *get_settings(void)
{
	__u32 zero = 0, *now = bpf_map_lookup_elem(&settings_now, &zero);

	return now ? bpf_map_lookup_elem(&settings, now) : NULL;
}

/* may_punt takes one packet out of the tenant's share, if it has one left. */
static __always_inline bool may_punt(const struct settings *s, __u32 tenant, bool bulk)
{
	struct bucket *b = bpf_map_lookup_elem(&buckets, &tenant);
	__u64 interval = bulk ? s->bulk_interval : s->punt_interval;
	__u64 burst = bulk ? s->bulk_burst : s->punt_burst;
	__u64 now = bpf_ktime_get_ns(), *next;
	bool ok;

	if (!b)
		return false;
	next = bulk ? &b->next_bulk : &b->next;
	bpf_spin_lock(&b->lock);
	if (*next < now)
		*next = now;
	ok = *next - now <= burst;
	if (ok)
		*next += interval;
	bpf_spin_unlock(&b->lock);
	return ok;
}

/* punt takes the packet as it came to user space. */
__global int punt(struct __sk_buff *skb, __u32 vsid, __u32 tenant, int why, __u32 from)
{
	bool bulk = why == PUNT_POLICY || why == PUNT_SLOW || why == PUNT_REWRITE || why == PUNT_SHAPE ||
		    why == PUNT_NEIGHBOR;
	struct meta meta = {
		.version = META_VERSION,
		.why = -why,
		.from = from,
		.queue = bulk ? QUEUE_BULK : QUEUE_ODD,
		.ifindex = skb->ifindex,
		.tenant = tenant,
		.ethertype = htons(ETH_P_LOCAL),
	};
	struct settings *s = get_settings();

	if (!s || !may_punt(s, tenant, bulk))
		return drop_packet(vsid, DROP_RATE_LIMITED);
	if (!s->punt)
		return drop_packet(vsid, DROP_PORT_DOWN);
	observe(ACTION_PUNT, why, vsid, 0);
	if (bpf_skb_change_head(skb, sizeof(meta), 0) ||
	    bpf_skb_store_bytes(skb, 0, &meta, sizeof(meta), 0))
		return drop_packet(vsid, DROP_NO_BUFFER);
	count_event(vsid, PUNTED - why);
	return bpf_redirect(s->punt, 0);
}
