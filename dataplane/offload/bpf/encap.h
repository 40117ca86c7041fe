/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "port.h"

/* The way to the fabric: output.go of package dataplane, and Push of package
 * encap. */

/* tunnel is the outer headers that a packet gets. */
struct tunnel {
	struct addr src, dst;
	__u32 ifindex;
	__u32 len; /* of the outer packet */
	__u16 overhead;
	__u8 vxlan, ipv6;
	__u8 tos;
};

/* A shim is all that comes before the inner IP packet. The padding in front keeps
 * the headers aligned, and is not written. */
#define SHIM(name, ip_type, tunnel_headers) \
	struct name {                       \
		__u16 pad;                  \
		struct ethhdr eth;          \
		struct ip_type ip;          \
		tunnel_headers              \
		struct ethhdr inner;        \
		__u16 end;                  \
	}
SHIM(shim4_nvgre, iphdr, struct grehdr gre;);
SHIM(shim4_vxlan, iphdr, struct udphdr udp; struct vxlanhdr vxlan;);
SHIM(shim6_nvgre, ip6hdr, struct grehdr gre;);
SHIM(shim6_vxlan, ip6hdr, struct udphdr udp; struct vxlanhdr vxlan;);

/* sum_words adds up n 16-bit words, as they lie. */
static __always_inline __u64 sum_words(const void *p, int n)
{
	const __u16 *w = p;
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < n; i++)
		sum += w[i];
	return sum;
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* sum_inner gives the sum of the inner IP packet, whose bytes need not be read:
 * a transport header and its data, with a good checksum, sum up to the complement
 * of their pseudo-header, and an IPv4 header to nothing. Not ok where there is no
 * such checksum. Who sends a wrong one gets a wrong outer one too. */
static __always_inline bool sum_inner(struct __sk_buff *skb, const struct headers *h, bool hop, __u64 *sum)
{
	__u32 l4 = h->len - (h->l4 - h->l3);
	__u64 pseudo = htons(h->proto) + htons((__u16)l4);
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	switch (h->proto) {
	case IPPROTO_UDP:
		if (!h->check || h->len != l4 + (h->l4 - h->l3))
			return false;
		break;
	case IPPROTO_TCP:
	case IPPROTO_ICMPV6:
		break;
	case IPPROTO_ICMP:
		if (h->version == 4)
			return true; /* no pseudo-header */
	default:
		return false;
	}
	if (h->version == 4) {
		pseudo += sum_words(&h->src.w[3], 2) + sum_words(&h->dst.w[3], 2);
	} else {
		struct ip6hdr *ip = data + ETH_LEN;
		pseudo += sum_words(&h->src, 8) + sum_words(&h->dst, 8);
		if ((void *)(ip + 1) > end)
			return false;
		/* As it will be: see rewrite. */
		*sum += sum_words(ip, 20) + (hop ? (__u16)~htons(1) : 0);
	}
	*sum += (__u16)~fold(pseudo);
	return true;
}

static __always_inline void put_ipv4(struct iphdr *ip, const struct tunnel *t, __u8 proto)
{
	memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = t->tos;
	ip->length = htons(t->len);
	ip->frag = htons(0x4000);
	ip->ttl = 64;
	ip->protocol = proto;
	ip->saddr = t->src.w[3];
	ip->daddr = t->dst.w[3];
	ip->check = ~sum4(ip);
}

static __always_inline void put_ipv6(struct ip6hdr *ip, const struct tunnel *t, __u8 proto, __u32 label)
{
	ip->flow = htonl(6u << 28 | (__u32)t->tos << 20 | label);
	ip->payload = htons(t->len - IPV6_LEN);
	ip->next = proto;
	ip->hops = 64;
	for (int i = 0; i < 4; i++) {
		ip->saddr[i] = t->src.w[i];
		ip->daddr[i] = t->dst.w[i];
	}
}

static __always_inline void put_gre(struct grehdr *gre, const struct departure *d)
{
	gre->flags = htons(0x2000);
	gre->proto = htons(ETH_P_TEB);
	gre->key = htonl(d->to.vsid << 8 | d->hash >> 24);
}

static __always_inline __u16 source_port(const struct departure *d) { return 49152 + (d->hash >> 18); }

static __always_inline void put_vxlan(struct udphdr *udp, struct vxlanhdr *vxlan, const struct departure *d, __u32 len)
{
	udp->source = htons(source_port(d));
	udp->dest = htons(VXLAN_PORT);
	udp->len = htons(len);
	udp->check = 0;
	vxlan->flags = htonl(0x08000000);
	vxlan->vni = htonl(d->to.vsid << 8);
}

static const __u64 encap_flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_LEN);

union shim {
	struct shim4_nvgre nvgre4;
	struct shim4_vxlan vxlan4;
	struct shim6_nvgre nvgre6;
	struct shim6_vxlan vxlan6;
};

/* scratch is where a shim is made: it is more than the stack has room for. A
 * processor runs one program here at a time. */
TABLE(scratch, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, union shim, 1, 0);

/* SHIM_LEN is how much of a shim is written. */
#define SHIM_LEN(type) (sizeof(struct type) - sizeof_member(struct type, pad) - sizeof_member(struct type, end))

/* open_room makes the place for a shim; the packet stays as it is if there can be
 * none, as where it was in a tunnel of its own and came out by the kernel's means
 * or ours: the kernel marks super-packets as tunnelled, and takes no second mark. */
#define open_room(skb, type, flags) \
	(bpf_skb_adjust_room(skb, SHIM_LEN(type) - ETH_LEN, BPF_ADJ_ROOM_MAC, encap_flags | (flags)) == 0)

/* store writes the shim, which the inner IP packet follows. */
#define store(skb, type, s) (bpf_skb_store_bytes(skb, 0, &(s)->eth, SHIM_LEN(type), 0) == 0)

static __always_inline bool put_nvgre4(struct __sk_buff *skb, const struct departure *d, const struct tunnel *t, struct shim4_nvgre *s)
{
	memset(&s->eth, 0, sizeof(s->eth));
	s->eth.proto = htons(ETH_P_IP);
	put_ipv4(&s->ip, t, IPPROTO_GRE);
	put_gre(&s->gre, d);
	return store(skb, shim4_nvgre, s);
}

static __always_inline bool put_vxlan4(struct __sk_buff *skb, const struct departure *d, const struct tunnel *t, struct shim4_vxlan *s)
{
	memset(&s->eth, 0, sizeof(s->eth));
	s->eth.proto = htons(ETH_P_IP);
	put_ipv4(&s->ip, t, IPPROTO_UDP);
	put_vxlan(&s->udp, &s->vxlan, d, t->len - IPV4_LEN);
	return store(skb, shim4_vxlan, s);
}

static __always_inline bool put_nvgre6(struct __sk_buff *skb, const struct departure *d, const struct tunnel *t, struct shim6_nvgre *s)
{
	memset(&s->eth, 0, sizeof(s->eth));
	s->eth.proto = htons(ETH_P_IPV6);
	put_ipv6(&s->ip, t, IPPROTO_GRE, d->hash >> 24);
	put_gre(&s->gre, d);
	return store(skb, shim6_nvgre, s);
}

static __always_inline bool put_vxlan6(struct __sk_buff *skb, const struct departure *d, const struct tunnel *t, struct shim6_vxlan *s, __u64 inner)
{
	memset(&s->eth, 0, sizeof(s->eth));
	s->eth.proto = htons(ETH_P_IPV6);
	put_ipv6(&s->ip, t, IPPROTO_UDP, source_port(d));
	put_vxlan(&s->udp, &s->vxlan, d, t->len - IPV6_LEN);
	inner += sum_words(&t->src, 8) + sum_words(&t->dst, 8) + htons(IPPROTO_UDP) + s->udp.len +
		 sum_words(&s->udp, sizeof(s->udp) / 2) + sum_words(&s->vxlan, sizeof(s->vxlan) / 2) +
		 sum_words(&s->inner, sizeof(s->inner) / 2);
	s->udp.check = ~fold(inner);
	if (!s->udp.check)
		s->udp.check = 0xffff;
	return store(skb, shim6_vxlan, s);
}

/* leave_by finds the interface that leads to the other end of the tunnel, where the
 * PAs are on several: it need not be the one that the source is on. The kernel tells
 * of interfaces that forward alone, which those of the fabric must not; so it is
 * asked on behalf of the link to user space, which does, and which carries nothing
 * that could be forwarded. Where it does not tell, user space asks it. */
__global int leave_by(struct __sk_buff *skb, struct tunnel *t)
{
	struct settings *s = get_settings();
	struct bpf_fib_lookup fib = { .ifindex = 0 };
	long r;

	if (!t || !s)
		return PUNT_NEIGHBOR;
	fib.ifindex = s->punt;
	fib.family = t->ipv6 ? AF_INET6 : AF_INET;
	if (t->ipv6) {
		for (int i = 0; i < 4; i++) {
			fib.src[i] = t->src.w[i];
			fib.dst[i] = t->dst.w[i];
		}
	} else {
		fib.src[0] = t->src.w[3];
		fib.dst[0] = t->dst.w[3];
	}
	r = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (r != BPF_FIB_LKUP_RET_SUCCESS && r != BPF_FIB_LKUP_RET_NO_NEIGH)
		return PUNT_NEIGHBOR;
	t->ifindex = fib.ifindex;
	return 0;
}

/* choose_tunnel decides about the outer headers: from a PA of the record that
 * vouched for the inner source to one of the destination's. */
__global int choose_tunnel(struct __sk_buff *skb, const struct departure *d, struct tunnel *t)
{
	struct settings *s = get_settings();
	struct pa *pa;
	bool any;

	if (!s || !d || !t)
		return PUNT_NEIGHBOR;
	if (d->to.rule == RULE_REWRITE || (!d->free && d->src.rule == RULE_REWRITE))
		return PUNT_REWRITE;
	choose_pa(&d->to, d->hash, &t->dst);
	t->ipv6 = !is_ipv4(&t->dst);
	t->vxlan = d->to.rule == RULE_VXLAN;
	any = d->free;
	if (!any) {
		choose_pa(&d->src, d->hash, &t->src);
		/* A compartment is at our PAs of both address families. */
		any = t->ipv6 == is_ipv4(&t->src) && d->in.flags & PORT_COMPARTMENT;
	}
	if (any) {
		t->src = t->ipv6 ? s->source6 : s->source4;
		t->ifindex = t->ipv6 ? s->ifindex6 : s->ifindex4;
		if (!t->ifindex)
			return DROP_NO_SOURCE_PA;
	} else {
		if (t->ipv6 == is_ipv4(&t->src))
			return DROP_NO_SOURCE_PA;
		pa = bpf_map_lookup_elem(&pas, &t->src);
		if (!pa)
			return PUNT_NEIGHBOR;
		t->ifindex = pa->ifindex;
	}
	if (s->fabrics > 1 && leave_by(skb, t))
		return PUNT_NEIGHBOR;
	t->tos = (d->in.dscp == DSCP_COPY ? d->h.tos & ~3 : d->in.dscp << 2) | (d->h.tos & 3);
	t->overhead = (t->ipv6 ? IPV6_LEN : IPV4_LEN) + (t->vxlan ? UDP_LEN + VXLAN_LEN : GRE_LEN);
	t->len = skb->len + t->overhead;
	if (wire_len(skb, &d->h) + t->overhead + ETH_LEN > s->mtu)
		return PUNT_TOO_BIG;
	if (t->len > 0xffff)
		return PUNT_SHAPE;
	/* One outer UDP checksum cannot serve all pieces of a super-packet. */
	if (t->ipv6 && t->vxlan && (skb->gso_size || skb->len != ETH_LEN + d->h.len))
		return PUNT_SHAPE;
	return 0;
}

/* encap gives the packet its outer headers. */
__global int encap(struct __sk_buff *skb, const struct departure *d, const struct tunnel *t)
{
	__u32 zero = 0;
	union shim *s = bpf_map_lookup_elem(&scratch, &zero);
	__u64 inner = 0;
	bool ok;

	if (!d || !t || !s)
		return DROP_NO_BUFFER;
	if (t->ipv6 && t->vxlan && !sum_inner(skb, &d->h, d->routed, &inner))
		return PUNT_SHAPE;
	if (t->ipv6)
		ok = t->vxlan ? open_room(skb, shim6_vxlan, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP)
			      : open_room(skb, shim6_nvgre, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_ENCAP_L4_GRE);
	else
		ok = t->vxlan ? open_room(skb, shim4_vxlan, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP)
			      : open_room(skb, shim4_nvgre, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_GRE);
	if (!ok)
		return PUNT_SHAPE;
	if (t->ipv6 && t->vxlan)
		ok = rewrite(skb, d, SHIM_LEN(shim6_vxlan), &s->vxlan6.inner) && put_vxlan6(skb, d, t, &s->vxlan6, inner);
	else if (t->ipv6)
		ok = rewrite(skb, d, SHIM_LEN(shim6_nvgre), &s->nvgre6.inner) && put_nvgre6(skb, d, t, &s->nvgre6);
	else if (t->vxlan)
		ok = rewrite(skb, d, SHIM_LEN(shim4_vxlan), &s->vxlan4.inner) && put_vxlan4(skb, d, t, &s->vxlan4);
	else
		ok = rewrite(skb, d, SHIM_LEN(shim4_nvgre), &s->nvgre4.inner) && put_nvgre4(skb, d, t, &s->nvgre4);
	return ok ? 0 : DROP_NO_BUFFER;
}
