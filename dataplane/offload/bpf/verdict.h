/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "punt.h"

/* What user space has said of a flow at a port whose lists it has: that its packets
 * pass them, or why they do not. A verdict is about the lists alone. Whose source a
 * packet may have, and where it goes, is found by the tables for each packet.
 *
 * It is believed while the port's layers are those that it was made by: each change
 * of them is another number, and voids all that was said before by one write to the
 * port. What opens and ends TCP connections is user space's, which keeps their
 * state; of the rest it is told by the verdict's own counters. */

/* As flow.Outbound and flow.Inbound. */
enum verdict_dir { VERDICT_OUT = 1, VERDICT_IN };

struct verdict_key {
	__u32 port; /* its interface */
	__u16 sport, dport;
	struct addr src, dst;
	__u8 dir;
	__u8 proto;
	__u8 pad[2];
};

struct verdict {
	struct verdict_key key; /* again: see lookup_record */
	__u32 reason;           /* 0: they pass */
	__u32 policy;           /* the port's, by which it was made */
	__u32 reply;            /* it is about answers; for the next process */
	__u64 seen;             /* when it last held, of the monotonic clock; to seen_every */
	__u64 packets, bytes;
};

TABLE(verdicts, BPF_MAP_TYPE_HASH, struct verdict_key, struct verdict, 1024, BPF_F_NO_PREALLOC);

static const __u64 seen_every = 50 * 1000 * 1000; /* nanoseconds */

static __always_inline bool is_key(const struct verdict_key *a, const struct verdict_key *b)
{
	return a->port == b->port && a->sport == b->sport && a->dport == b->dport && same_addr(&a->src, &b->src) &&
	       same_addr(&a->dst, &b->dst) && a->dir == b->dir && a->proto == b->proto;
}

/* ask_verdict tells what becomes of a packet at a port with lists: 0, why it is
 * dropped, or PUNT_POLICY where user space has not said. bytes are those of the
 * frame. */
__global int ask_verdict(const struct headers *h, __u32 port, __u32 dir, __u32 policy, __u32 bytes)
{
	struct verdict_key key = { .port = port, .dir = dir };
	struct verdict *v;
	__u32 made, reason;
	__u64 now;

	if (!h || h->proto == IPPROTO_ICMP || h->proto == IPPROTO_ICMPV6)
		return PUNT_POLICY;
	key.proto = h->proto;
	key.src = h->src;
	key.dst = h->dst;
	key.sport = h->sport;
	key.dport = h->dport;
	v = bpf_map_lookup_elem(&verdicts, &key);
	if (!v)
		return PUNT_POLICY;
	made = *(volatile __u32 *)&v->policy;
	reason = *(volatile __u32 *)&v->reason;
	barrier();
	if (!is_key(&v->key, &key) || made != policy)
		return PUNT_POLICY;
	if (!reason && h->proto == IPPROTO_TCP && h->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST))
		return PUNT_POLICY;
	now = bpf_ktime_get_coarse_ns();
	if (now - v->seen > seen_every)
		v->seen = now;
	__sync_fetch_and_add(&v->packets, 1);
	__sync_fetch_and_add(&v->bytes, bytes);
	return reason;
}
