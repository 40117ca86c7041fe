/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "headers.h"

/* The kernel's connection tracking, as programs may ask it. Its structures are
 * relocated when the programs are loaded. */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

union nf_inet_addr {
	__be32 all[4];
};

union nf_conntrack_man_proto {
	__be16 all;
};

struct nf_conntrack_man {
	union nf_inet_addr u3;
	union nf_conntrack_man_proto u;
};

struct nf_conntrack_tuple {
	struct nf_conntrack_man src;
	struct {
		union nf_inet_addr u3;
		union {
			__be16 all;
		} u;
	} dst;
};

struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
};

struct ip_ct_tcp {
	__u8 state;
};

union nf_conntrack_proto {
	struct ip_ct_tcp tcp;
};

struct nf_conn {
	unsigned long status;
	struct nf_conntrack_tuple_hash tuplehash[2];
	union nf_conntrack_proto proto;
};

#pragma clang attribute pop

enum {
	IPS_SEEN_REPLY = 1 << 1,
	IPS_ASSURED = 1 << 2,
	IPS_CONFIRMED = 1 << 3,
	IPS_SEQ_ADJUST = 1 << 6,
	IPS_DYING = 1 << 9,
	IPS_HELPER = 1 << 13,

	TCP_CONNTRACK_ESTABLISHED = 3,
};

/* Its first form, which later kernels take as well. */
struct bpf_ct_opts {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir; /* of the packet in its connection: 0 is that of the first one */
	__u8 pad[2];
};

struct bpf_sock_tuple {
	union {
		struct {
			__be32 saddr, daddr;
			__be16 sport, dport;
		} ipv4;
		struct {
			__be32 saddr[4], daddr[4];
			__be16 sport, dport;
		} ipv6;
	};
};

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 tuple_len, struct bpf_ct_opts *opts,
					 __u32 opts_len) __ksym __weak;
extern void bpf_ct_release(struct nf_conn *ct) __ksym __weak;
extern int bpf_ct_change_timeout(struct nf_conn *ct, __u32 milliseconds) __ksym __weak;

/* How a connection stands. */
enum connection {
	UNKNOWN,     /* it is not translated here */
	ESTABLISHED,
	UNASSURED,   /* also translated, and to be shown to connection tracking now and then */
};

/* ends are a packet's addresses and ports. */
struct ends {
	struct addr src, dst;
	__u16 sport, dport;
};

#define READ_TUPLE(ct, dir, out)                                                \
	do {                                                                    \
		for (int i_ = 0; i_ < 4; i_++) {                                \
			(out)->w[0][i_] = (ct)->tuplehash[dir].tuple.src.u3.all[i_]; \
			(out)->w[1][i_] = (ct)->tuplehash[dir].tuple.dst.u3.all[i_]; \
		}                                                               \
		(out)->port[0] = (ct)->tuplehash[dir].tuple.src.u.all;          \
		(out)->port[1] = (ct)->tuplehash[dir].tuple.dst.u.all;          \
	} while (0)

struct raw_tuple {
	__be32 w[2][4];
	__be16 port[2];
};

/* question is room to ask in. */
struct question {
	struct bpf_sock_tuple tuple;
	struct raw_tuple raw;
};

/* ask_conntrack asks the connection tracking of a namespace how a packet that
 * entered it would leave. With a time, which is in milliseconds, the connection
 * lives so much longer. */
static __always_inline enum connection ask_conntrack(struct __sk_buff *skb, struct question *room, const struct headers *h, __s32 netns,
						     __u32 tcp_ms, __u32 udp_ms, struct ends *out)
{
	struct bpf_ct_opts o = { .netns_id = netns, .l4proto = h->proto };
	struct raw_tuple *raw = &room->raw;
	enum connection found = UNKNOWN;
	struct nf_conn *ct;
	__u64 status;
	__u32 ms;

	memset(&room->tuple, 0, sizeof(room->tuple));
	if (!bpf_skb_ct_lookup || !bpf_ct_release || !bpf_ct_change_timeout)
		return UNKNOWN;
	if (h->version == 4) {
		room->tuple.ipv4.saddr = h->src.w[3];
		room->tuple.ipv4.daddr = h->dst.w[3];
		room->tuple.ipv4.sport = htons(h->sport);
		room->tuple.ipv4.dport = htons(h->dport);
		ct = bpf_skb_ct_lookup(skb, &room->tuple, sizeof(room->tuple.ipv4), &o, sizeof(o));
	} else {
		for (int i = 0; i < 4; i++) {
			room->tuple.ipv6.saddr[i] = h->src.w[i];
			room->tuple.ipv6.daddr[i] = h->dst.w[i];
		}
		room->tuple.ipv6.sport = htons(h->sport);
		room->tuple.ipv6.dport = htons(h->dport);
		ct = bpf_skb_ct_lookup(skb, &room->tuple, sizeof(room->tuple.ipv6), &o, sizeof(o));
	}
	if (!ct)
		return UNKNOWN;
	status = ct->status;
	if (!(status & IPS_CONFIRMED) || status & (IPS_SEQ_ADJUST | IPS_DYING | IPS_HELPER))
		goto out;
	/* Many flows of UDP are never answered. If one is, conntrack has to see it. */
	if (!(status & IPS_SEEN_REPLY) && (h->proto != IPPROTO_UDP || o.dir))
		goto out;
	if (h->proto == IPPROTO_TCP) {
		if (!(status & IPS_ASSURED) || ct->proto.tcp.state != TCP_CONNTRACK_ESTABLISHED)
			goto out;
		ms = tcp_ms;
	} else {
		ms = udp_ms;
	}
	/* It leaves as the answer to what comes the other way. */
	if (o.dir == 0) {
		READ_TUPLE(ct, 1, raw);
	} else {
		barrier();
		READ_TUPLE(ct, 0, raw);
	}
	found = status & IPS_ASSURED ? ESTABLISHED : UNASSURED;
	if (found == ESTABLISHED && ms)
		bpf_ct_change_timeout(ct, ms);
out:
	bpf_ct_release(ct);
	if (found == UNKNOWN)
		return UNKNOWN;
	if (h->version == 4) {
		set_addr4(&out->src, raw->w[1][0]);
		set_addr4(&out->dst, raw->w[0][0]);
	} else {
		set_addr6(&out->src, raw->w[1]);
		set_addr6(&out->dst, raw->w[0]);
	}
	out->sport = ntohs(raw->port[1]);
	out->dport = ntohs(raw->port[0]);
	return found;
}
