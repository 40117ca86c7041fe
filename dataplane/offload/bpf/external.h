/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "punt.h"

/* The addresses that compartments have outside: what is steered to them by, and
 * held against what leaves. */

/* externals: whose an external address is. shares: the same for a range of its
 * ports and echo identifiers, where compartments have a part each; a range is cut
 * into prefixes of port numbers. */
struct external {
	struct addr addr; /* again: see find_external */
	__u32 link;       /* the gateway-side end of the compartment's ext; 0: see shares */
	__u32 uplink;     /* the interface to the outside */
	__u32 mtu;        /* the greatest IP packet that ext takes */
	__u16 lo, hi;     /* of the range */
	__u8 mac[6];      /* of ext */
	__u8 peer[6];     /* of its gateway-side end */
};

struct share_key {
	__u32 bits;
	struct addr addr;
	__be16 port;
	__u8 pad[2];
};

/* forwards: prefixes from which a compartment may send as well, over its link. The
 * kernel forwards these packets, and those to them. */
struct forward_key {
	__u32 bits;
	__u32 link;
	struct addr addr;
};

struct forward {
	__u32 link; /* again: see find_external */
};

/* exit_counts: what passed here over a compartment's link, and packets of the
 * compartment that were not let out. */
struct exit_count {
	struct count in, out;
	struct count nat_in, nat_out; /* past the compartment: see nat.h */
	__u64 spoofed;  /* not from an external address, or port, of its own */
	__u64 fragment; /* from an address of which it has a part: a fragment has no port */
};

TABLE(externals, BPF_MAP_TYPE_HASH, struct addr, struct external, 1024, BPF_F_NO_PREALLOC);
TABLE(shares, BPF_MAP_TYPE_LPM_TRIE, struct share_key, struct external, 1024, BPF_F_NO_PREALLOC);
TABLE(forwards, BPF_MAP_TYPE_LPM_TRIE, struct forward_key, struct forward, 1024, BPF_F_NO_PREALLOC);
TABLE(exit_counts, BPF_MAP_TYPE_PERCPU_HASH, __u32, struct exit_count, 1024, BPF_F_NO_PREALLOC);

enum {
	SHARE_BITS = 8 * (sizeof(struct addr) + sizeof(__be16)),
	FORWARD_BITS = 8 * (sizeof(__u32) + sizeof(struct addr)),
};

/* find_external copies the entry of an address. The kernel may hand the place of a
 * deleted one to another meanwhile, which can be another compartment's: so each
 * says which address it is of, and is asked before and after. */
static __always_inline bool find_external(const struct addr *a, struct external *out)
{
	struct external *e = bpf_map_lookup_elem(&externals, a);

	if (!e)
		return false;
	*out = *e;
	barrier();
	return same_addr(&out->addr, a) && *(volatile __be32 *)&e->addr.w[3] == a->w[3] &&
	       *(volatile __u32 *)&e->link == out->link;
}

/* find_share finds who has the port of a shared address. */
static __always_inline bool find_share(const struct addr *a, __u16 port, struct external *out)
{
	struct share_key key = { .bits = SHARE_BITS, .addr = *a, .port = htons(port) };
	struct external *e = bpf_map_lookup_elem(&shares, &key);

	if (!e)
		return false;
	*out = *e;
	barrier();
	return same_addr(&out->addr, a) && out->lo <= port && port <= out->hi && *(volatile __be32 *)&e->addr.w[3] == a->w[3] &&
	       *(volatile __u32 *)&e->link == out->link;
}

/* What port_of gives where a packet shows no port. */
enum { NO_PORT = -1, IN_FRAGMENT = -2 };

/* quoted_port gives the port of an address in the packet that an ICMP error at l4
 * quotes: the error's sender is told by what it was sent, so source asks for the
 * quoted destination. */
static __always_inline int quoted_port(struct __sk_buff *skb, __u32 l4, bool ipv6, bool source, const struct addr *a)
{
	const __u32 l3 = l4 + ICMP_LEN;
	__be16 at[4];
	struct addr quoted;
	__u8 proto;

	if (ipv6) {
		struct ip6hdr ip;
		if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)))
			return NO_PORT;
		set_addr6(&quoted, source ? ip.daddr : ip.saddr);
		proto = ip.next;
	} else {
		struct iphdr ip;
		if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl != 5 || ip.frag & htons(0x1fff))
			return NO_PORT;
		set_addr4(&quoted, source ? ip.daddr : ip.saddr);
		proto = ip.protocol;
	}
	if (!same_addr(&quoted, a) || bpf_skb_load_bytes(skb, l3 + (ipv6 ? IPV6_LEN : IPV4_LEN), at, sizeof(at)))
		return NO_PORT;
	if (proto == IPPROTO_TCP || proto == IPPROTO_UDP)
		return ntohs(source ? at[1] : at[0]);
	if (proto == (ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return ntohs(at[2]);
	return NO_PORT;
}

/* port_at gives the port, or the echo identifier, that a packet's transport header
 * at l4 has for the address: of its source, or of its destination. */
__global int port_at(struct __sk_buff *skb, __u32 l4, __u32 proto, bool source, const struct addr *a)
{
	__u8 b[ICMP_LEN];
	bool ipv6;

	if (!a)
		return NO_PORT;
	ipv6 = !is_ipv4(a);
	if (proto == IPPROTO_TCP || proto == IPPROTO_UDP) {
		if (bpf_skb_load_bytes(skb, l4, b, 4))
			return NO_PORT;
		return source ? b[0] << 8 | b[1] : b[2] << 8 | b[3];
	}
	if (proto != (ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) || bpf_skb_load_bytes(skb, l4, b, sizeof(b)))
		return NO_PORT;
	if (ipv6 ? b[0] == 128 || b[0] == 129 : b[0] == 8 || b[0] == 0)
		return b[4] << 8 | b[5];
	if (ipv6 ? b[0] < 128 : b[0] == 3 || b[0] == 11 || b[0] == 12)
		return quoted_port(skb, l4, ipv6, source, a);
	return NO_PORT;
}

/* port_of is port_at for a packet that may have options, extension headers, or be
 * a fragment. */
__global int port_of(struct __sk_buff *skb, bool source, const struct addr *a)
{
	struct iphdr ip;
	struct ip6hdr ip6;
	__u32 l4 = ETH_LEN + IPV6_LEN, len;
	__u8 next, b[2];

	if (!a)
		return NO_PORT;
	if (is_ipv4(a)) {
		if (bpf_skb_load_bytes(skb, ETH_LEN, &ip, sizeof(ip)) || ip.ihl < 5)
			return NO_PORT;
		if (ip.frag & htons(0x3fff))
			return IN_FRAGMENT;
		return port_at(skb, ETH_LEN + ip.ihl * 4, ip.protocol, source, a);
	}
	if (bpf_skb_load_bytes(skb, ETH_LEN, &ip6, sizeof(ip6)))
		return NO_PORT;
	next = ip6.next;
	for (int i = 0; i < 8; i++) {
		if (next == IPPROTO_FRAGMENT)
			return IN_FRAGMENT;
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS && next != IPPROTO_AH)
			return port_at(skb, l4, next, source, a);
		if (bpf_skb_load_bytes(skb, l4, b, sizeof(b)))
			return NO_PORT;
		len = next == IPPROTO_AH ? (b[1] + 2) * 4 : (b[1] + 1) * 8;
		l4 += len;
		next = b[0];
	}
	return NO_PORT;
}

/* What may_say finds. */
enum exit_drop { EXIT_SPOOFED = 1, EXIT_FRAGMENT };

/* may_say tells whether a packet from a compartment's link says the truth about its
 * source, and gives the entry of that; or an exit_drop. */
static __always_inline int may_say(struct __sk_buff *skb, const struct addr *src, struct external *e)
{
	int port;

	if (!find_external(src, e))
		return EXIT_SPOOFED;
	if (!e->link) {
		port = port_of(skb, true, src);
		if (port == IN_FRAGMENT)
			return EXIT_FRAGMENT;
		if (port < 0 || !find_share(src, port, e))
			return EXIT_SPOOFED;
	}
	return e->link == skb->ifindex ? 0 : EXIT_SPOOFED;
}

/* may_forward tells whether an address is in a prefix from which the link's
 * compartment may send. */
static __always_inline bool may_forward(__u32 link, const struct addr *src)
{
	struct forward_key key = { .bits = FORWARD_BITS, .link = link, .addr = *src };
	struct forward *f = bpf_map_lookup_elem(&forwards, &key);

	return f && f->link == link;
}

/* forwarding finds the next hop of a packet from the one address to the other, as
 * the kernel would forward it from the interface in. It gives the interface, or 0
 * where the kernel is to decide. p is room to work in. */
static __always_inline __u32 forwarding(struct __sk_buff *skb, struct bpf_fib_lookup *p, __u32 in, const struct headers *h,
					const struct addr *from, const struct addr *to, __u32 len, struct bpf_redir_neigh *hop)
{
	long r;

	memset(p, 0, sizeof(*p));
	p->ifindex = in;
	p->tot_len = len;
	p->l4_protocol = h->proto;
	if (is_ipv4(to)) {
		p->family = AF_INET;
		p->tos = h->tos;
		p->src[0] = from->w[3];
		p->dst[0] = to->w[3];
	} else {
		p->family = AF_INET6;
		for (int i = 0; i < 4; i++) {
			p->src[i] = from->w[i];
			p->dst[i] = to->w[i];
		}
	}
	if (to == &h->dst) { /* not the way back */
		p->sport = htons(h->sport);
		p->dport = htons(h->dport);
	}
	r = bpf_fib_lookup(skb, p, sizeof(*p), 0);
	/* Where the neighbour is not known, it is found out on the way. */
	if (r != BPF_FIB_LKUP_RET_SUCCESS && r != BPF_FIB_LKUP_RET_NO_NEIGH)
		return 0;
	hop->family = p->family;
	for (int i = 0; i < 4; i++)
		hop->hop[i] = p->dst[i];
	return p->ifindex;
}

/* counts_of gives the counters of a compartment's link. */
static __always_inline struct exit_count *counts_of(__u32 link) { return bpf_map_lookup_elem(&exit_counts, &link); }

__global int drop_exit(__u32 link, __u32 drop)
{
	struct exit_count *c = counts_of(link);

	if (c && drop == EXIT_FRAGMENT)
		c->fragment++;
	else if (c)
		c->spoofed++;
	observe(ACTION_DROP, drop, 0, link);
	return TC_ACT_SHOT;
}
