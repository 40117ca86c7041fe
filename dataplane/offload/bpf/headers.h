/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "kernel.h"
#include "reasons.h"
#include "tables.h"

/* The codec: what packages encap and packet do, check by check and in the same
 * order, for packets of the common shapes. What has another shape is for user
 * space: the functions give one of enum punt then. */

/* What a look at a packet comes to: a drop reason, 0 for none, or one of these. */
enum punt {
	PUNT_ARP = -1,         /* ARP and neighbor discovery */
	PUNT_GROUP = -2,       /* broadcast and multicast */
	PUNT_FRAGMENT = -3,
	PUNT_OPTIONS = -4,     /* IPv4 options, IPv6 extension headers */
	PUNT_DHCP = -5,
	PUNT_ROUTER = -6,      /* for the distributed router itself */
	PUNT_TTL = -7,         /* the sender must be told that it ends here */
	PUNT_TOO_BIG = -8,     /* to be cut, or the sender to be told */
	PUNT_UNKNOWN = -9,     /* the sender must be told, or a station be found */
	PUNT_REWRITE = -10,    /* travels without a tunnel */
	PUNT_SHAPE = -11,      /* padding, merged packets, checksums that are not made here */
	PUNT_POLICY = -12,     /* a port's layers */
	PUNT_SLOW = -13,       /* the whole tenant */
	PUNT_NEIGHBOR = -14,   /* the way over the fabric is not known here */
	PUNT_ICMP = -15,       /* errors, and pings of the dataplane's own */
};

/* outer is what the outer headers of a tunnel packet say. */
struct outer {
	struct addr src;
	__u32 vsid;
	__u32 len;   /* of the outer packet */
	__u16 inner; /* where the inner frame starts, from the outer one's start */
	__u8 rule;
	__u8 tos;
	__u8 own;    /* it is for one of our PAs, not for a group */
	__u8 ipv6;
};

/* headers is what the headers of an inner frame say. Offsets are from the start
 * of the packet as it is in the kernel. */
struct headers {
	struct addr src, dst;
	__u32 len; /* of the IP packet */
	__u32 l3, l4;
	__u16 sport, dport;
	__u16 l4_len;    /* of the TCP or UDP header */
	__be16 ethertype;
	__be16 check;    /* the transport's, as it is in the packet */
	__u8 dmac[6], smac[6];
	__u8 version; /* 0: no IP packet */
	__u8 proto;
	__u8 ttl;
	__u8 tos;
	union {
		__u8 icmp_type;
		__u8 tcp_flags;
	};
	__u8 own_ping; /* an echo that a dataplane sent or answered */
};

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4 };

enum {
	ETH_LEN = 14,
	ETH_LEAST = 60, /* of a frame, without its check sequence */
	IPV4_LEN = 20,
	IPV6_LEN = 40,
	GRE_LEN = 8,
	UDP_LEN = 8,
	ICMP_LEN = 8,
	VXLAN_LEN = 8,
	TCP_LEN = 20,
	MAX_OUTER = ETH_LEN + IPV6_LEN + UDP_LEN + VXLAN_LEN,
	/* So much of a packet is looked at. */
	MAX_HEADERS = MAX_OUTER + ETH_LEN + IPV6_LEN + TCP_LEN,
	VXLAN_PORT = 4789,
	MIN_VSID = 4096,
	MAX_VSID = 0xfffffe,
};

static __always_inline void set_addr4(struct addr *a, __be32 v4)
{
	a->w[0] = 0;
	a->w[1] = 0;
	a->w[2] = htonl(0xffff);
	a->w[3] = v4;
}

static __always_inline void set_addr6(struct addr *a, const __be32 *v6)
{
	a->w[0] = v6[0];
	a->w[1] = v6[1];
	a->w[2] = v6[2];
	a->w[3] = v6[3];
}

static __always_inline bool is_ipv4(const struct addr *a)
{
	return a->w[0] == 0 && a->w[1] == 0 && a->w[2] == htonl(0xffff);
}

static __always_inline bool same_addr(const struct addr *a, const struct addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3] && a[4] == b[4] && a[5] == b[5];
}

/* sum4 adds up an IPv4 header without options, folded. */
static __always_inline __u32 sum4(const struct iphdr *ip)
{
	const __u16 *w = (const void *)ip;
	__u32 sum = w[0] + w[1] + w[2] + w[3] + w[4] + w[5] + w[6] + w[7] + w[8] + w[9];

	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* make_linear makes sure that all headers can be read directly. */
static __always_inline void make_linear(struct __sk_buff *skb)
{
	__u32 have = skb->data_end - skb->data;

	if (unlikely(have < MAX_HEADERS && have < skb->len))
		bpf_skb_pull_data(skb, skb->len < MAX_HEADERS ? skb->len : MAX_HEADERS);
}

/* parse_gre and parse_vxlan read the tunnel header at l4; len is what the outer
 * packet has from there on. */
static __always_inline int parse_gre(void *l4, void *end, __u32 len, struct outer *o)
{
	struct grehdr *gre = l4;

	if (len < 4)
		return DROP_OUTER_LENGTH;
	if (l4 + 4 > end)
		return PUNT_SHAPE;
	if (gre->flags & htons(0x0007))
		return DROP_GRE_VERSION;
	if (gre->flags & htons(0x4c00))
		return DROP_GRE_RESERVED;
	if (gre->flags & htons(0x9000))
		return DROP_GRE_FLAGS;
	if (!(gre->flags & htons(0x2000)))
		return DROP_GRE_NO_KEY;
	if (gre->proto != htons(ETH_P_TEB))
		return DROP_GRE_PROTOCOL;
	if (len < GRE_LEN)
		return DROP_OUTER_LENGTH;
	if ((void *)(gre + 1) > end)
		return PUNT_SHAPE;
	o->rule = RULE_NVGRE;
	o->vsid = ntohl(gre->key) >> 8;
	o->inner += GRE_LEN;
	return 0;
}

static __always_inline int parse_vxlan(void *l4, void *end, __u32 len, struct outer *o)
{
	struct udphdr *udp = l4;
	struct vxlanhdr *vxlan = (void *)(udp + 1);

	if (len < UDP_LEN)
		return DROP_OUTER_LENGTH;
	if ((void *)(udp + 1) > end)
		return PUNT_SHAPE;
	if (ntohs(udp->len) != len)
		return DROP_UDP_LENGTH;
	if (len < UDP_LEN + VXLAN_LEN)
		return DROP_OUTER_LENGTH;
	if ((void *)(vxlan + 1) > end)
		return PUNT_SHAPE;
	if (!(vxlan->flags & htonl(0x08000000)))
		return DROP_VXLAN_NO_VNI;
	o->rule = RULE_VXLAN;
	o->vsid = ntohl(vxlan->vni) >> 8;
	o->inner += UDP_LEN + VXLAN_LEN;
	return 0;
}

/* parse_transport reads the header at l4, of which the packet has len bytes. */
static __always_inline int parse_transport(void *l4, void *end, __u32 len, struct headers *h)
{
	switch (h->proto) {
	case IPPROTO_TCP: {
		__u8 *b = l4;
		if (len < TCP_LEN)
			return DROP_INNER_TRUNCATED;
		if (l4 + TCP_LEN > end)
			return PUNT_SHAPE;
		h->l4_len = (b[12] >> 4) * 4;
		if (h->l4_len < TCP_LEN || h->l4_len > len)
			return DROP_INNER_MALFORMED;
		h->sport = ntohs(*(__be16 *)b);
		h->dport = ntohs(*(__be16 *)(b + 2));
		h->check = *(__be16 *)(b + 16);
		h->tcp_flags = b[13];
		return 0;
	}
	case IPPROTO_UDP: {
		struct udphdr *udp = l4;
		if (len < UDP_LEN)
			return DROP_INNER_TRUNCATED;
		if ((void *)(udp + 1) > end)
			return PUNT_SHAPE;
		h->l4_len = UDP_LEN;
		if (ntohs(udp->len) < UDP_LEN || ntohs(udp->len) > len)
			return DROP_INNER_MALFORMED;
		h->sport = ntohs(udp->source);
		h->dport = ntohs(udp->dest);
		h->check = udp->check;
		return 0;
	}
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (len < 4)
			return DROP_INNER_TRUNCATED;
		if (l4 + 4 > end)
			return PUNT_SHAPE;
		h->icmp_type = *(__u8 *)l4;
		h->check = *(__be16 *)(l4 + 2);
		/* What its data begins with: see ping_cookie.go. */
		if (len >= ICMP_LEN + 3 && l4 + ICMP_LEN + 3 <= end) {
			__u8 *b = l4 + ICMP_LEN;
			h->own_ping = b[0] == 'h' && b[1] == 'n' && b[2] == 'v';
		}
		return 0;
	}
	return 0;
}

static __always_inline int parse_inner4(void *l3, void *end, __u32 len, struct headers *h)
{
	struct iphdr *ip = l3;

	if (len < IPV4_LEN)
		return DROP_INNER_TRUNCATED;
	if ((void *)(ip + 1) > end)
		return PUNT_SHAPE;
	if (ip->version != 4 || ip->ihl < 5)
		return DROP_INNER_MALFORMED;
	h->len = ntohs(ip->length);
	if (h->len < ip->ihl * 4)
		return DROP_INNER_MALFORMED;
	if (h->len > len)
		return DROP_INNER_TRUNCATED;
	if (ip->ihl != 5)
		return PUNT_OPTIONS;
	if (sum4(ip) != 0xffff)
		return DROP_INNER_CHECKSUM;
	if (ip->frag & htons(0x3fff))
		return PUNT_FRAGMENT;
	h->version = 4;
	h->tos = ip->tos;
	h->ttl = ip->ttl;
	h->proto = ip->protocol;
	h->l4 = h->l3 + IPV4_LEN;
	set_addr4(&h->src, ip->saddr);
	set_addr4(&h->dst, ip->daddr);
	return parse_transport(l3 + IPV4_LEN, end, h->len - IPV4_LEN, h);
}

static __always_inline int parse_inner6(void *l3, void *end, __u32 len, struct headers *h)
{
	struct ip6hdr *ip = l3;

	if (len < IPV6_LEN)
		return DROP_INNER_TRUNCATED;
	if ((void *)(ip + 1) > end)
		return PUNT_SHAPE;
	if ((ip->flow & htonl(0xf0000000)) != htonl(0x60000000))
		return DROP_INNER_MALFORMED;
	h->len = IPV6_LEN + ntohs(ip->payload);
	if (h->len > len)
		return DROP_INNER_TRUNCATED;
	h->version = 6;
	h->tos = ntohl(ip->flow) >> 20;
	h->ttl = ip->hops;
	h->proto = ip->next;
	h->l4 = h->l3 + IPV6_LEN;
	set_addr6(&h->src, ip->saddr);
	set_addr6(&h->dst, ip->daddr);
	if (is_ipv4(&h->src) || is_ipv4(&h->dst)) /* mapped: see parseIPv6 of package packet */
		return DROP_INNER_MALFORMED;
	switch (h->proto) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
		return PUNT_OPTIONS;
	}
	return parse_transport(l3 + IPV6_LEN, end, h->len - IPV6_LEN, h);
}

/* parse_inner reads the Ethernet frame of len bytes that starts at off. */
__global int parse_inner(struct __sk_buff *skb, __u32 off, __u32 len, struct headers *h)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth;
	void *l3;

	if (!h || off > MAX_OUTER)
		return PUNT_SHAPE;
	if (len < ETH_LEN)
		return DROP_INNER_TRUNCATED;
	eth = data + off;
	if ((void *)(eth + 1) > end)
		return PUNT_SHAPE;
	l3 = (void *)(eth + 1);
	memcpy(h->dmac, eth->dst, 6);
	memcpy(h->smac, eth->src, 6);
	h->ethertype = eth->proto;
	h->l3 = off + ETH_LEN;
	h->l4 = h->l3;
	if (h->smac[0] & 1 || !(h->smac[0] | h->smac[1] | h->smac[2] | h->smac[3] | h->smac[4] | h->smac[5]))
		return DROP_INNER_SOURCE_MAC;
	switch (eth->proto) {
	case htons(ETH_P_IP):
		return parse_inner4(l3, end, len - ETH_LEN, h);
	case htons(ETH_P_IPV6):
		return parse_inner6(l3, end, len - ETH_LEN, h);
	case htons(ETH_P_8021Q):
	case htons(ETH_P_8021AD):
		return DROP_INNER_VLAN;
	}
	return 0;
}

/* spare_headers tells whether a checksum that is still to be made leaves alone
 * what was read: Offload.SpareHeaders of package packet. One that starts before
 * inner is of an outer header, and goes with that. */
static __always_inline int spare_headers(struct __sk_buff *skb, __u32 inner, const struct headers *h)
{
	const int type_and_code = 2;
	struct sk_buff *k;
	__s32 start;

	if (!bpf_cast_to_kern_ctx)
		return 0;
	k = bpf_cast_to_kern_ctx(skb);
	if (READ_BITFIELD(k, ip_summed) != CHECKSUM_PARTIAL)
		return 0;
	start = (__s32)k->csum_start - (__s32)(k->data - k->head);
	if (start < (__s32)inner)
		return 0;
	if (start < (__s32)h->l4 || start + k->csum_offset < (__s32)h->l4 + type_and_code)
		return DROP_CHECKSUM_UNSUPPORTED;
	return 0;
}

/* is_group, martian and the like decide about addresses as source.go does. */

static __always_inline bool is_multicast(const struct addr *a)
{
	if (is_ipv4(a))
		return (ntohl(a->w[3]) >> 28) == 0xe;
	return (ntohl(a->w[0]) >> 24) == 0xff;
}

static __always_inline bool is_group(const struct headers *h)
{
	return h->dmac[0] & 1 || is_multicast(&h->dst) || (is_ipv4(&h->dst) && h->dst.w[3] == 0xffffffff);
}

static __always_inline bool martian(const struct addr *a)
{
	if (is_ipv4(a)) {
		__u32 first = ntohl(a->w[3]) >> 24;
		return first == 0 || first == 127 || first >= 240;
	}
	if (!(a->w[0] | a->w[1] | a->w[2]) && ntohl(a->w[3]) <= 1) /* unspecified, loopback */
		return true;
	return (ntohl(a->w[0]) >> 22) == (0xfe800000 >> 22); /* link-local */
}

/* decide_shape says what becomes of a frame by its kind alone, once it was read:
 * ARP, neighbor discovery, groups and DHCP are for user space. */
static __always_inline int decide_shape(struct __sk_buff *skb, const struct headers *h, __u32 frame)
{
	if (h->ethertype == htons(ETH_P_ARP))
		return PUNT_ARP;
	if (!h->version)
		return DROP_ETHERTYPE_UNSUPPORTED;
	if (h->version == 6 && h->proto == IPPROTO_ICMPV6 && h->icmp_type >= 133 && h->icmp_type <= 137)
		return PUNT_ARP;
	if (is_group(h))
		return PUNT_GROUP;
	if (h->proto == IPPROTO_UDP) {
		if (h->version == 4 && (h->dport == 67 || h->dport == 68))
			return PUNT_DHCP;
		if (h->version == 6 && (h->dport == 546 || h->dport == 547))
			return PUNT_DHCP;
	}
	if (h->version == 4 && h->proto == IPPROTO_ICMP) {
		if (h->icmp_type == 3 || h->icmp_type == 4 || h->icmp_type == 11 || h->icmp_type == 12)
			return PUNT_ICMP;
		if ((h->icmp_type == 0 || h->icmp_type == 8) && h->own_ping)
			return PUNT_ICMP;
	}
	if (h->version == 6 && h->proto == IPPROTO_ICMPV6 && (h->icmp_type < 128 || (h->icmp_type <= 129 && h->own_ping)))
		return PUNT_ICMP;
	/* Several tunnel packets in a row, merged by their outer headers; or something
	 * behind the packet that is more than Ethernet may need: it is cut off. */
	if (h->len != frame - ETH_LEN && (skb->gso_size || frame > ETH_LEAST))
		return PUNT_SHAPE;
	return 0;
}

static __always_inline int check_addresses(const struct headers *h)
{
	if (martian(&h->src) || is_multicast(&h->src))
		return DROP_SOURCE_MARTIAN;
	if (martian(&h->dst))
		return DROP_DESTINATION_MARTIAN;
	if (!h->ttl)
		return DROP_TTL_EXPIRED;
	return 0;
}

/* wire_len is the length of the IP packet, or of the greatest one that a
 * super-packet is cut into. */
static __always_inline __u32 wire_len(struct __sk_buff *skb, const struct headers *h)
{
	__u32 piece = h->l4 - h->l3 + h->l4_len + skb->gso_size;

	return skb->gso_size && piece < h->len ? piece : h->len;
}

/* pieces tells how many packets a super-packet becomes, and what bytes these have
 * more than it. */
static __always_inline __u32 pieces(__u32 gso_size, const struct headers *h)
{
	__u32 header = h->l4 - h->l3 + h->l4_len;

	if (!gso_size || h->len <= header + gso_size)
		return 1;
	return (h->len - header + gso_size - 1) / gso_size;
}

/* lower_ttl takes one off the TTL or hop limit of the IP packet at l3. */
static __always_inline bool lower_ttl(struct __sk_buff *skb, __u32 l3, __u8 version)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (version == 4) {
		struct iphdr *ip = data + l3;
		__u32 sum;
		if ((void *)(ip + 1) > end)
			return false;
		/* The TTL is the upper byte of its word: RFC 1624. */
		sum = (__u16)~ntohs(ip->check) + (__u16)~((__u32)ip->ttl << 8 | ip->protocol) +
		      (((__u32)ip->ttl - 1) << 8 | ip->protocol);
		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		ip->ttl--;
		ip->check = htons((__u16)~sum);
	} else {
		struct ip6hdr *ip = data + l3;
		if ((void *)(ip + 1) > end)
			return false;
		ip->hops--;
	}
	return true;
}
