/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "fabric.h"

/* A frame from a port: what port.go, source.go and router.go of package dataplane
 * decide. */

/* departure is a frame from a port and what is found about it. */
struct departure {
	struct headers h;
	struct port in;
	struct record to;  /* where it goes */
	struct record src; /* who vouched for the source, unless free */
	__u32 hash;
	bool free;   /* a compartment speaks for what lies outside */
	bool routed; /* it goes to another virtual subnet, or came by the router's MAC */
};

/* is_at_port tells whether the record is that of the port. */
static __always_inline bool is_at_port(const struct departure *d, const struct record *r)
{
	return r->flags & RECORD_HERE && r->vsid == d->in.vsid && same_mac(r->mac, d->in.mac);
}

__global int check_port_source(struct departure *d)
{
	struct place p = {};

	if (!d)
		return DROP_SOURCE_CA_UNKNOWN;

	resolve(d->in.tenant, &d->h.src, &p);
	switch (p.where) {
	case AT_RECORD:
		if (!is_at_port(d, &p.rec))
			return DROP_SOURCE_CA_SPOOFED;
		d->src = p.rec;
		return 0;
	case AT_ROUTER:
		return DROP_SOURCE_CA_SPOOFED;
	case ON_LINK:
		return DROP_SOURCE_CA_UNKNOWN;
	case NOWHERE:
		wildcards(d->in.vsid, &d->h.src, &p.hops);
	}
	for_each_hop(d->in.tenant, &p.hops, 0, &p.rec, {
		if (is_at_port(d, &p.rec)) {
			d->src = p.rec;
			return 0;
		}
	});
	if (p.where == NOWHERE && d->in.flags & PORT_COMPARTMENT) {
		d->free = true;
		return 0;
	}
	if (p.where == NOWHERE && !p.hops.n)
		return DROP_SOURCE_CA_UNKNOWN;
	return DROP_SOURCE_CA_SPOOFED;
}

/* find_way finds where the packet goes: through the distributed router if it is
 * for that one's MAC, or else inside its virtual subnet to the record that has
 * its destination MAC. */
__global int find_way(struct departure *d)
{
	struct subnet *v;
	struct place p = {};
	__u32 first = 0;
	int r;

	if (!d)
		return DROP_DESTINATION_UNKNOWN;
	r = d->routed ? PUNT_UNKNOWN : DROP_DESTINATION_UNKNOWN;

	resolve(d->in.tenant, &d->h.dst, &p);
	if (d->routed && p.where == AT_ROUTER)
		return PUNT_ROUTER;
	if (d->routed && d->h.ttl <= 1)
		return PUNT_TTL;
	switch (p.where) {
	case AT_RECORD:
		if (!d->routed && (p.rec.vsid != d->in.vsid || !same_mac(p.rec.mac, d->h.dmac)))
			return DROP_WRONG_PORT;
		d->to = p.rec;
		return 0;
	case AT_ROUTER: /* by another MAC than the router's */
		return DROP_ROUTER_ADDRESS;
	case ON_LINK:
		v = bpf_map_lookup_elem(&vsids, &d->in.vsid);
		if (!d->routed && v && v->flags & SUBNET_L2ONLY)
			return PUNT_UNKNOWN;
		return r;
	case NOWHERE:
		wildcards(d->in.vsid, &d->h.dst, &p.hops);
		if (!p.hops.n)
			return d->routed ? PUNT_UNKNOWN : DROP_NO_ROUTE;
	}
	if (d->routed && p.hops.n > 1) {
		struct hop_set *set = bpf_map_lookup_elem(&hop_sets, &p.hops.set);
		if (!set || !set->n)
			return r;
		first = d->hash % set->n;
	}
	for_each_hop(d->in.tenant, &p.hops, first, &p.rec, {
		if (d->routed || (p.rec.vsid == d->in.vsid && same_mac(p.rec.mac, d->h.dmac))) {
			d->to = p.rec;
			return 0;
		}
		r = DROP_WRONG_PORT;
	});
	return r;
}

/* rewrite makes a routed packet, which starts at l3 by now, one of the next virtual
 * subnet. eth becomes the Ethernet header that it leaves with. */
static __always_inline bool rewrite(struct __sk_buff *skb, const struct departure *d, __u32 l3, struct ethhdr *eth)
{
	memcpy(eth->dst, d->h.dmac, 6);
	memcpy(eth->src, d->h.smac, 6);
	eth->proto = d->h.ethertype;
	if (!d->routed)
		return true;
	memcpy(eth->dst, d->to.mac, 6);
	if (d->free || !(d->src.flags & RECORD_VM_MAC))
		memcpy(eth->src, router_mac, 6);
	return lower_ttl(skb, l3, d->h.version);
}

/* forward_local takes the packet to another port of this machine. */
__global int forward_local(struct __sk_buff *skb, const struct departure *d, struct port *out)
{
	struct ethhdr eth;
	int r;

	if (!d || !out)
		return DROP_NO_PORT;
	if (!lookup_station(d->to.vsid, d->to.mac, out) || out->tenant != d->in.tenant)
		return DROP_NO_PORT;
	if (out->ifindex == d->in.ifindex)
		return DROP_SAME_PORT;
	if (out->flags & PORT_SLOW_IN)
		return PUNT_POLICY;
	if (out->flags & PORT_ASK_IN) {
		r = ask_verdict(&d->h, out->ifindex, VERDICT_IN, out->policy, skb->len);
		if (r)
			return r;
	}
	if (out->mtu && wire_len(skb, &d->h) > out->mtu)
		return PUNT_TOO_BIG;
	if (out->rates) {
		r = charge(out->rates, out->tenant, false, charged(skb->gso_size, &d->h, skb->len));
		if (r)
			return r;
	}
	if (!rewrite(skb, d, ETH_LEN, &eth))
		return DROP_NO_BUFFER;
	if (d->routed && bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0))
		return DROP_NO_BUFFER;
	return 0;
}
