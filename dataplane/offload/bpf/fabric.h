/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "outer.h"
#include "rate.h"
#include "resolve.h"
#include "verdict.h"

/* A packet from the fabric, once its virtual subnet is known: what provider.go
 * and source.go of package dataplane decide. */

const volatile bool decap_sets_family = true; /* the kernel knows DECAP_L3 */
const volatile bool decap_unmarks = false;    /* and DECAP_L4: else super-packets stay marked as tunnelled */

static const __u8 router_mac[6] = { 0x02, 0x68, 0x6e, 0, 0, 1 };

/* arrival is a packet from the fabric and what is found about it. */
struct arrival {
	struct outer o;
	struct headers h;
	__u32 tenant;
	__u8 src_rule, dst_rule;
	__u8 far; /* its source was found to be at another machine's PA */
};

/* vouch tells whether the record explains how the packet came. */
static __always_inline int vouch(struct arrival *a, const struct record *r)
{
	a->src_rule = r->rule;
	if (!is_at(r, &a->o.src))
		return DROP_SOURCE_PA_MISMATCH;
	if (!same_mac(a->h.smac, r->mac) && !same_mac(a->h.smac, router_mac))
		return DROP_SOURCE_MAC_MISMATCH;
	a->far = !(r->flags & RECORD_HERE);
	return 0;
}

/* check_source makes the reverse path check. */
__global int check_source(struct arrival *a)
{
	struct subnet *v;
	struct place p = {};
	int r = DROP_SOURCE_CA_UNKNOWN;

	if (!a)
		return r;

	resolve(a->tenant, &a->h.src, &p);
	switch (p.where) {
	case AT_RECORD:
		return vouch(a, &p.rec);
	case AT_ROUTER:
		v = bpf_map_lookup_elem(&vsids, &a->o.vsid);
		if (!v)
			return DROP_VSID_UNKNOWN;
		a->src_rule = v->rule;
		if (!is_host(a->tenant, &a->o.src))
			return DROP_SOURCE_PA_UNKNOWN;
		if (!same_mac(a->h.smac, router_mac))
			return DROP_SOURCE_MAC_MISMATCH;
		if (a->h.proto != IPPROTO_ICMP && a->h.proto != IPPROTO_ICMPV6)
			return DROP_SOURCE_CA_SPOOFED;
		return 0;
	case ON_LINK:
		return r;
	case NOWHERE:
		wildcards(a->o.vsid, &a->h.src, &p.hops);
	}
	for_each_hop(a->tenant, &p.hops, 0, &p.rec, {
		r = vouch(a, &p.rec);
		if (!r)
			return 0;
	});
	return r;
}

/* leads_to tells whether the record is that of the port. */
static __always_inline int leads_to(struct arrival *a, const struct port *to, const struct record *r)
{
	a->dst_rule = r->rule;
	if (!(r->flags & RECORD_HERE))
		return DROP_NOT_LOCAL;
	if (r->vsid != to->vsid || !same_mac(r->mac, to->mac))
		return DROP_WRONG_PORT;
	return 0;
}

/* check_destination checks that the packet's destination is found at the port. */
__global int check_destination(struct arrival *a, const struct port *to)
{
	struct subnet *v;
	struct place p = {};
	int r = DROP_DESTINATION_UNKNOWN;

	if (!a || !to)
		return r;

	resolve(a->tenant, &a->h.dst, &p);
	switch (p.where) {
	case AT_RECORD:
		return leads_to(a, to, &p.rec);
	case AT_ROUTER:
		return DROP_ROUTER_ADDRESS;
	case ON_LINK:
		v = bpf_map_lookup_elem(&vsids, &a->o.vsid);
		return v && v->flags & SUBNET_L2ONLY ? PUNT_UNKNOWN : DROP_DESTINATION_UNKNOWN;
	case NOWHERE:
		wildcards(a->o.vsid, &a->h.dst, &p.hops);
	}
	for_each_hop(a->tenant, &p.hops, 0, &p.rec, {
		r = leads_to(a, to, &p.rec);
		if (!r)
			return 0;
	});
	if (p.where == NOWHERE && to->flags & PORT_COMPARTMENT) {
		a->dst_rule = 0;
		return 0; /* it has the ways out of the routing domain */
	}
	if (p.where == NOWHERE && !p.hops.n)
		return DROP_WRONG_PORT;
	return r;
}

/* lookup_station copies the port with the MAC in the virtual subnet. */
static __always_inline bool lookup_station(__u32 vsid, const __u8 *mac, struct port *out)
{
	struct station_key key = { .vsid = vsid };
	struct port *p;

	memcpy(key.mac, mac, 6);
	p = bpf_map_lookup_elem(&stations, &key);
	if (!p)
		return false;
	*out = *p;
	barrier(); /* see lookup_record */
	return out->vsid == vsid && same_mac(out->mac, mac) && *(volatile __u32 *)&p->vsid == vsid;
}

/* ecn_of gives the congestion field with which the packet leaves the tunnel (RFC
 * 6040 section 4.2), or -1. */
static __always_inline int ecn_of(__u8 outer, __u8 inner)
{
	outer &= 3;
	inner &= 3;
	if (!inner)
		return outer == 3 ? -1 : 0;
	if (outer == 3)
		return 3;
	if (outer == 1 && inner == 2)
		return 1;
	return inner;
}

/* set_ecn writes the inner congestion field. */
static __always_inline bool set_ecn(struct __sk_buff *skb, const struct arrival *a, __u8 ecn)
{
	__u8 tos = (a->h.tos & ~3) | ecn;
	void *data, *end;
	__u32 l3 = a->h.l3;

	if (l3 > MAX_OUTER + ETH_LEN)
		return false;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (a->h.version == 4) {
		struct iphdr *ip = data + l3;
		__u32 sum;
		if ((void *)(ip + 1) > end)
			return false;
		/* RFC 1624 section 3, equation 3. */
		sum = (__u16)~ntohs(ip->check) + (__u16)~(0x4500 | a->h.tos) + (0x4500 | tos);
		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		ip->tos = tos;
		ip->check = htons((__u16)~sum);
		return true;
	} else {
		struct ip6hdr *ip = data + l3;
		__be32 flow;
		if ((void *)(ip + 1) > end)
			return false;
		flow = (ip->flow & htonl(0xf00fffff)) | htonl((__u32)tos << 20);
		return !bpf_skb_store_bytes(skb, l3, &flow, sizeof(flow), BPF_F_RECOMPUTE_CSUM);
	}
}

/* to_port hands the Ethernet frame to the port. */
static __always_inline int to_port(struct __sk_buff *skb, const struct port *to, __u32 vsid)
{
	struct traffic *t = traffic_of(to->slot);

	if (t)
		add(&t->to_ports, 1, skb->len);
	observe(ACTION_PORT, 0, vsid, to->ifindex);
	if (to->flags & PORT_PEER)
		return bpf_redirect_peer(to->ifindex, 0);
	return bpf_redirect(to->ifindex, 0);
}

/* shrink takes the outer headers off, but for the Ethernet header, which becomes
 * the inner one, without the tag that it may have, of no VLAN. */
static __always_inline int shrink(struct __sk_buff *skb, struct arrival *a)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO;
	int ecn = ecn_of(a->o.tos, a->h.tos);

	if (ecn < 0)
		return DROP_ECN_INVALID;
	if (ecn != (a->h.tos & 3) && !set_ecn(skb, a, ecn))
		return DROP_NO_BUFFER;
	if (decap_sets_family)
		flags |= a->h.version == 6 ? BPF_F_ADJ_ROOM_DECAP_L3_IPV6 : BPF_F_ADJ_ROOM_DECAP_L3_IPV4;
	if (decap_unmarks)
		flags |= a->o.rule == RULE_VXLAN ? BPF_F_ADJ_ROOM_DECAP_L4_UDP : BPF_F_ADJ_ROOM_DECAP_L4_GRE;
	if (skb->vlan_present && bpf_skb_vlan_pop(skb))
		return DROP_NO_BUFFER;
	if (bpf_skb_adjust_room(skb, -(__s32)a->o.inner, BPF_ADJ_ROOM_MAC, flags))
		return DROP_NO_BUFFER;
	return 0;
}

/* decap takes the outer headers off and hands the frame to the port. */
static __always_inline int decap(struct __sk_buff *skb, struct arrival *a, const struct port *to)
{
	struct ethhdr eth;
	int r;

	if (to->mtu && wire_len(skb, &a->h) > to->mtu)
		return drop_packet(a->o.vsid, DROP_TOO_BIG);
	r = shrink(skb, a);
	if (r)
		return drop_packet(a->o.vsid, r);
	memcpy(eth.dst, a->h.dmac, 6);
	memcpy(eth.src, a->h.smac, 6);
	eth.proto = a->h.ethertype;
	if (bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0))
		return drop_packet(a->o.vsid, DROP_NO_BUFFER);
	return to_port(skb, to, a->o.vsid);
}
