/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "encap.h"

/* Who asks for a neighbor at a port, in the name of an address with a record there,
 * is answered here, if what it asks for is the router or has a record: proxy.go of
 * package dataplane. So neighbors can be renewed while no user space is there. What
 * is out of the ordinary is left to it: probes, claims, unknown targets, and
 * whatever is to be refused. */

struct arppkt {
	__be16 hardware, protocol;
	__u8 hardware_len, protocol_len;
	__be16 op;
	__u8 sender_mac[6];
	__be16 sender[2];
	__u8 target_mac[6];
	__be16 target[2];
};

struct ndpkt {
	__u8 type, code;
	__u16 check;
	__be32 flags;
	__be32 target[4];
	__u8 option, option_len;
	__u8 mac[6];
};

/* The frames as they are answered with. The padding keeps the headers aligned, and
 * is not written. */
struct arp_frame {
	__u16 pad;
	struct ethhdr eth;
	struct arppkt arp;
};

struct nd_frame {
	__u16 pad;
	struct ethhdr eth;
	struct ip6hdr ip;
	struct ndpkt nd;
};

struct neighbor {
	union {
		struct arp_frame arp;
		struct nd_frame nd;
	};
	struct record rec;
	struct addr sender, target;
};

TABLE(neighbors, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct neighbor, 1, 0);

enum {
	ARP_REQUEST = 1,
	ARP_REPLY = 2,
	ARP_LEN = 28,
	ND_LEN = 32, /* with the address of a link */
	ND_SOLICITATION = 135,
	ND_ADVERTISEMENT = 136,
	ND_SOURCE = 1,
	ND_TARGET = 2,
	ND_HOPS = 255,
};
#define ND_ROUTER 0x80000000u
#define ND_SOLICITED 0x40000000u
#define ND_OVERRIDE 0x20000000u

/* neighbor_mac gives the MAC to answer with that n->target has it; false if user
 * space is to say something. */
static __always_inline bool neighbor_mac(struct neighbor *n, const struct departure *d, __u8 *mac, bool *router)
{
	if (same_addr(&n->sender, &n->target) || !lookup_record(d->in.tenant, &n->target, &n->rec) || n->rec.vsid != d->in.vsid)
		return false;
	*router = n->rec.flags & RECORD_ROUTER;
	memcpy(mac, *router ? router_mac : n->rec.mac, 6);
	return !same_mac(mac, d->in.mac);
}

/* may_ask tells whether the sender's address is known to be the port's. */
static __always_inline bool may_ask(struct neighbor *n, const struct departure *d)
{
	return lookup_record(d->in.tenant, &n->sender, &n->rec) && !(n->rec.flags & RECORD_ROUTER) && is_at_port(d, &n->rec);
}

static __always_inline bool answer_arp(struct __sk_buff *skb, const struct departure *d, struct neighbor *n)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct arppkt *q = data + ETH_LEN, *a = &n->arp.arp;
	bool router;

	if ((void *)(q + 1) > end || q->hardware != htons(1) || q->protocol != htons(ETH_P_IP) || q->hardware_len != 6 ||
	    q->protocol_len != 4 || q->op != htons(ARP_REQUEST) || !same_mac(q->sender_mac, d->in.mac))
		return false;
	memcpy(a->target, q->sender, 4);
	memcpy(a->sender, q->target, 4);
	set_addr4(&n->sender, (__u32)q->sender[0] | (__u32)q->sender[1] << 16);
	set_addr4(&n->target, (__u32)q->target[0] | (__u32)q->target[1] << 16);
	if (!may_ask(n, d) || !neighbor_mac(n, d, a->sender_mac, &router))
		return false;
	a->hardware = htons(1);
	a->protocol = htons(ETH_P_IP);
	a->hardware_len = 6;
	a->protocol_len = 4;
	a->op = htons(ARP_REPLY);
	memcpy(a->target_mac, d->in.mac, 6);
	memcpy(n->arp.eth.dst, d->in.mac, 6);
	memcpy(n->arp.eth.src, a->sender_mac, 6);
	n->arp.eth.proto = htons(ETH_P_ARP);
	if (skb->len != ETH_LEN + ARP_LEN && bpf_skb_change_tail(skb, ETH_LEN + ARP_LEN, 0))
		return false;
	return !bpf_skb_store_bytes(skb, 0, &n->arp.eth, ETH_LEN + ARP_LEN, 0);
}

/* sum_nd adds up a message and its pseudo-header. */
static __always_inline __u64 sum_nd(const struct ndpkt *nd, const void *src, const void *dst)
{
	return sum_words(nd, ND_LEN / 2) + sum_words(src, 8) + sum_words(dst, 8) + htons(ND_LEN) + htons(IPPROTO_ICMPV6);
}

static __always_inline bool answer_nd(struct __sk_buff *skb, const struct departure *d, struct neighbor *n)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ip6hdr *ip = data + ETH_LEN;
	struct ndpkt *q = (void *)(ip + 1), *a = &n->nd.nd;
	bool router, local;

	if ((void *)(q + 1) > end || skb->len != ETH_LEN + IPV6_LEN + ND_LEN || d->h.len != IPV6_LEN + ND_LEN ||
	    d->h.ttl != ND_HOPS || q->type != ND_SOLICITATION || q->code || q->option != ND_SOURCE || q->option_len != 1 ||
	    !same_mac(q->mac, d->in.mac) || fold(sum_nd(q, ip->saddr, ip->daddr)) != 0xffff)
		return false;
	n->sender = d->h.src;
	set_addr6(&n->target, q->target);
	local = (ntohl(n->sender.w[0]) >> 22) == (0xfe800000 >> 22);
	if (is_ipv4(&n->target) || (!local && !may_ask(n, d)) || !neighbor_mac(n, d, a->mac, &router))
		return false;
	a->type = ND_ADVERTISEMENT;
	a->code = 0;
	a->check = 0;
	a->flags = htonl((router ? ND_ROUTER : 0) | ND_SOLICITED | ND_OVERRIDE);
	a->option = ND_TARGET;
	a->option_len = 1;
	n->nd.ip.flow = htonl(6u << 28);
	n->nd.ip.payload = htons(ND_LEN);
	n->nd.ip.next = IPPROTO_ICMPV6;
	n->nd.ip.hops = ND_HOPS;
	for (int i = 0; i < 4; i++) {
		a->target[i] = n->target.w[i];
		n->nd.ip.saddr[i] = n->target.w[i];
		n->nd.ip.daddr[i] = n->sender.w[i];
	}
	a->check = ~fold(sum_nd(a, n->nd.ip.saddr, n->nd.ip.daddr));
	memcpy(n->nd.eth.dst, d->in.mac, 6);
	memcpy(n->nd.eth.src, a->mac, 6);
	n->nd.eth.proto = htons(ETH_P_IPV6);
	return !bpf_skb_store_bytes(skb, 0, &n->nd.eth, ETH_LEN + IPV6_LEN + ND_LEN, 0);
}

/* answer_neighbor makes the frame, which is ARP or neighbor discovery, its answer,
 * and gives 0; or leaves it as it is. */
__global int answer_neighbor(struct __sk_buff *skb, const struct departure *d)
{
	__u32 zero = 0, len = skb->len;
	struct neighbor *n = bpf_map_lookup_elem(&neighbors, &zero);
	struct traffic *t;
	struct subnet *v;

	if (!n || !d)
		return PUNT_ARP;
	v = bpf_map_lookup_elem(&vsids, &d->in.vsid);
	/* To be asked by a station is to learn where it is. */
	if (!v || v->flags & (SUBNET_SLOW | SUBNET_LEARNS))
		return PUNT_ARP;
	if (!(d->h.version ? answer_nd(skb, d, n) : answer_arp(skb, d, n)))
		return PUNT_ARP;
	t = traffic_of(d->in.slot);
	if (t) {
		add(&t->from_ports, 1, len);
		add(&t->to_ports, 1, skb->len);
	}
	count_event(d->in.vsid, ANSWERED);
	observe(ACTION_PORT, 0, d->in.vsid, d->in.ifindex);
	return 0;
}
