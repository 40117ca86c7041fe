/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "headers.h"

/* The outer headers of what arrives on an interface of the fabric. As the socket
 * filter of package port does it, what is neither for one of our provider
 * addresses nor a tunnel packet is left to the machine's own stack without a
 * word. */

enum { NOT_OURS = 0x1000 };

/* address_kind says what the destination is, and whether the packet's MAC address
 * goes with that. */
static __always_inline int address_kind(struct __sk_buff *skb, const struct addr *dst, struct outer *o)
{
	struct pa *pa = bpf_map_lookup_elem(&pas, dst);

	if (!pa)
		return NOT_OURS;
	if (skb->pkt_type != (pa->kind == PA_GROUP ? PACKET_MULTICAST : PACKET_HOST))
		return NOT_OURS;
	if (pa->kind == PA_REWRITE)
		return PUNT_REWRITE;
	/* On several interfaces of one network, a group's packets come as many times. */
	if (pa->kind == PA_GROUP && pa->ifindex && pa->ifindex != skb->ifindex)
		return NOT_OURS;
	o->own = pa->kind == PA_TUNNEL;
	return 0;
}

/* is_ours tells whether the address is a provider address of ours. */
static __always_inline bool is_ours(const struct addr *a)
{
	struct pa *pa = bpf_map_lookup_elem(&pas, a);

	return pa && pa->kind == PA_TUNNEL;
}

/* is_vxlan_port tells whether the UDP header at l4 is one for VXLAN. */
static __always_inline bool is_vxlan_port(void *l4, void *end)
{
	struct udphdr *udp = l4;

	return l4 + 4 <= end && udp->dest == htons(VXLAN_PORT);
}

static __always_inline int parse_outer4(struct __sk_buff *skb, struct outer *o)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_LEN;
	__u32 len = skb->len - ETH_LEN, ihl;
	struct addr dst;
	void *l4;
	int r;

	if ((void *)(ip + 1) > end)
		return NOT_OURS;
	set_addr4(&dst, ip->daddr);
	r = address_kind(skb, &dst, o);
	if (r)
		return r;
	ihl = ip->ihl * 4;
	l4 = (void *)ip + ihl;
	if (ip->protocol == IPPROTO_UDP) {
		if (!(ip->frag & htons(0x1fff)) && ihl >= IPV4_LEN && !is_vxlan_port(l4, end))
			return NOT_OURS;
	} else if (ip->protocol != IPPROTO_GRE) {
		return NOT_OURS;
	}

	if (ip->version != 4)
		return ip->version == 6 ? PUNT_SHAPE : DROP_OUTER_MALFORMED;
	if (ihl < IPV4_LEN || ihl > len)
		return DROP_OUTER_MALFORMED;
	o->len = ntohs(ip->length);
	if (o->len < ihl || o->len > len)
		return DROP_OUTER_LENGTH;
	if (ihl != IPV4_LEN)
		return PUNT_OPTIONS;
	if (sum4(ip) != 0xffff)
		return DROP_OUTER_CHECKSUM;
	if (ip->frag & htons(0x3fff))
		return DROP_OUTER_FRAGMENT;
	o->tos = ip->tos;
	set_addr4(&o->src, ip->saddr);
	o->inner = ETH_LEN + IPV4_LEN;
	l4 = (void *)(ip + 1);
	if (ip->protocol == IPPROTO_GRE)
		return parse_gre(l4, end, o->len - IPV4_LEN, o);
	return parse_vxlan(l4, end, o->len - IPV4_LEN, o);
}

static __always_inline int parse_outer6(struct __sk_buff *skb, struct outer *o)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ip6hdr *ip = data + ETH_LEN;
	__u32 len = skb->len - ETH_LEN;
	void *l4 = (void *)(ip + 1);
	struct addr dst;
	int r;

	if (l4 > end)
		return NOT_OURS;
	set_addr6(&dst, ip->daddr);
	if (is_ipv4(&dst)) /* mapped: it must not be found as what it is not */
		return NOT_OURS;
	r = address_kind(skb, &dst, o);
	if (r)
		return r;
	switch (ip->next) {
	case IPPROTO_GRE:
		break;
	case IPPROTO_UDP:
		if (!is_vxlan_port(l4, end))
			return NOT_OURS;
		break;
	case IPPROTO_HOPOPTS:
	case IPPROTO_DSTOPTS:
		return PUNT_OPTIONS;
	case IPPROTO_FRAGMENT:
		return PUNT_FRAGMENT;
	default:
		return NOT_OURS;
	}

	if ((ip->flow & htonl(0xf0000000)) != htonl(0x60000000))
		return PUNT_SHAPE;
	o->len = IPV6_LEN + ntohs(ip->payload);
	if (o->len > len)
		return DROP_OUTER_LENGTH;
	o->tos = ntohl(ip->flow) >> 20;
	set_addr6(&o->src, ip->saddr);
	if (is_ipv4(&o->src))
		return DROP_OUTER_MALFORMED;
	o->ipv6 = 1;
	o->inner = ETH_LEN + IPV6_LEN;
	if (ip->next == IPPROTO_GRE)
		return parse_gre(l4, end, o->len - IPV6_LEN, o);
	return parse_vxlan(l4, end, o->len - IPV6_LEN, o);
}

__global int parse_outer(struct __sk_buff *skb, struct outer *o)
{
	int r;

	if (!o)
		return NOT_OURS;
	/* A tag of no VLAN is none. */
	if (skb->vlan_present && skb->vlan_tci & 0xfff)
		return NOT_OURS;
	if (skb->protocol == htons(ETH_P_IP))
		r = parse_outer4(skb, o);
	else if (skb->protocol == htons(ETH_P_IPV6))
		r = parse_outer6(skb, o);
	else
		return NOT_OURS;
	if (r)
		return r;
	if (o->vsid < MIN_VSID || o->vsid > MAX_VSID)
		return DROP_VSID_RESERVED;
	if (o->len + ETH_LEN < o->inner + ETH_LEN)
		return DROP_INNER_TRUNCATED;
	return 0;
}

/* is_claimed tells, of a packet that no tenant is known of, whether the machine's own
 * packet filter keeps it from the stack too: Claimed of package encap. Packets with
 * IPv6 extension headers are not asked about here. */
__global int is_claimed(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end, *l4;
	__u32 len = skb->len - ETH_LEN, vsid, ihl, total;
	__u8 proto;

	if (skb->protocol == htons(ETH_P_IP)) {
		struct iphdr *ip = data + ETH_LEN;
		if ((void *)(ip + 1) > end || ip->version != 4)
			return false;
		ihl = ip->ihl * 4;
		total = ntohs(ip->length);
		if (ihl < IPV4_LEN || total < ihl || total > len)
			return false;
		proto = ip->protocol;
		if (proto != IPPROTO_GRE && proto != IPPROTO_UDP)
			return false;
		if (ip->frag & htons(0x3fff))
			return true;
		l4 = (void *)ip + ihl;
	} else {
		struct ip6hdr *ip = data + ETH_LEN;
		if ((void *)(ip + 1) > end || IPV6_LEN + ntohs(ip->payload) > len)
			return false;
		proto = ip->next;
		l4 = ip + 1;
	}
	if (proto == IPPROTO_GRE) {
		struct grehdr *gre = l4;
		const __be16 read = htons(0xa007); /* checksum, key, version */
		if ((void *)(gre + 1) > end || (gre->flags & read) != htons(0x2000) || gre->proto != htons(ETH_P_TEB))
			return false;
		vsid = ntohl(gre->key) >> 8;
	} else {
		struct udphdr *udp = l4;
		struct vxlanhdr *vxlan = (void *)(udp + 1);
		if (proto != IPPROTO_UDP || (void *)(vxlan + 1) > end || udp->dest != htons(VXLAN_PORT) || !(vxlan->flags & htonl(0x08000000)))
			return false;
		vsid = ntohl(vxlan->vni) >> 8;
	}
	return bpf_map_lookup_elem(&vsids, &vsid) != NULL;
}
