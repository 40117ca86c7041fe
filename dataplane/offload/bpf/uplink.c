// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0

/* The routed uplink: what compartments and the outside send each other.
 *
 *	outside --> uplink --> from_uplink --> compartment's ext
 *	ext --> its gateway-side end --> from_external --> uplink --> outside
 *
 * Both take the common packets; the kernel's forwarding, with the rules of package
 * compartments, is the reference and has all others: ARP and neighbor discovery,
 * fragments, options, what has no TTL left, is too big, is for the gateway, from
 * compartment to compartment, for nobody, or of a prefix that is forwarded as it is.
 * Only one thing is decided here alone: no packet of a compartment goes on, to the
 * kernel neither, that does not come from an external address of its own, or a
 * prefix that it forwards. */

#include "nat.h"

char _license[] SEC("license") = "Dual BSD/GPL";

const volatile struct {
	enum exit_drop exit_drop;
	enum action action;
} numbers = {};

static __always_inline int to_stack(void)
{
	observe(ACTION_PASS, 0, 0, 0);
	return TC_ACT_UNSPEC;
}

/* common tells whether a packet is one that is forwarded here. */
static __always_inline bool common(struct __sk_buff *skb, struct headers *h)
{
	return !skb->vlan_present && skb->pkt_type == PACKET_HOST && !parse_inner(skb, 0, skb->len, h) && h->version &&
	       !is_group(h) && !check_addresses(h) && h->ttl > 1;
}

/* from_uplink takes what arrives from the outside. */
SEC("tc")
int from_uplink(struct __sk_buff *skb)
{
	struct nat_work *w = get_work();
	struct external *e;
	struct headers *h;
	struct exit_count *c;
	int port, r;

	make_linear(skb);
	if (!w)
		return to_stack();
	h = &w->h;
	memset(h, 0, sizeof(*h));
	if (!common(skb, h))
		return to_stack();
	if (nat_offload) {
		r = nat_in(skb, h);
		if (r != NOT_TRANSLATED)
			return r;
	}
	e = &w->e;
	if (!find_external(&h->dst, e))
		return to_stack();
	if (!e->link) {
		port = port_at(skb, h->l4, h->proto, false, &h->dst);
		if (port < 0 || !find_share(&h->dst, port, e))
			return to_stack();
	}
	/* The way back to the source must lead over this uplink, or the kernel may have
	 * something against it: that the source is its own, or its reverse path filter. */
	if (e->uplink != skb->ifindex || wire_len(skb, h) > e->mtu ||
	    forwarding(skb, &w->fib, skb->ifindex, h, &h->dst, &h->src, IPV4_LEN, &w->flow.hop) != skb->ifindex)
		return to_stack();
	/* Both MACs, which follow each other. */
	if (!lower_ttl(skb, ETH_LEN, h->version) || bpf_skb_store_bytes(skb, 0, e->mac, sizeof(e->mac) + sizeof(e->peer), 0))
		return TC_ACT_SHOT;
	c = counts_of(e->link);
	if (c)
		add(&c->in, 1, h->len);
	observe(ACTION_PORT, 0, 0, e->link);
	return bpf_redirect_peer(e->link, 0);
}

/* source_of reads the source address; not ok if it is no packet that the kernel
 * would forward. */
static __always_inline bool source_of(struct __sk_buff *skb, struct addr *src)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ip6hdr *ip6 = data + ETH_LEN;
	struct iphdr *ip = data + ETH_LEN;

	if (skb->protocol == htons(ETH_P_IP)) {
		if ((void *)(ip + 1) > end)
			return false;
		set_addr4(src, ip->saddr);
		return true;
	}
	if ((void *)(ip6 + 1) > end)
		return false;
	set_addr6(src, ip6->saddr);
	return !is_ipv4(src);
}

/* from_external takes what a compartment sends to the outside. */
SEC("tc")
int from_external(struct __sk_buff *skb)
{
	struct bpf_redir_neigh hop = {};
	struct bpf_fib_lookup fib;
	struct external e = {};
	struct headers h = {};
	struct addr src = {};
	struct exit_count *c;
	int r;

	if (skb->protocol == htons(ETH_P_ARP)) /* nobody asks, or listens */
		return to_stack();
	make_linear(skb);
	if (skb->vlan_present || (skb->protocol != htons(ETH_P_IP) && skb->protocol != htons(ETH_P_IPV6)) || !source_of(skb, &src))
		return drop_exit(skb->ifindex, EXIT_SPOOFED);
	/* What the link's own IPv6 says to its neighbours, no kernel forwards: from no
	 * address, or from one of the link. Nor from loopback, but that is forged. */
	if (!is_ipv4(&src) && martian(&src) && (src.w[0] || src.w[3] != htonl(1)))
		return to_stack();
	r = may_say(skb, &src, &e);
	if (r == EXIT_SPOOFED && may_forward(skb->ifindex, &src))
		return to_stack();
	if (r)
		return drop_exit(skb->ifindex, r);
	if (!common(skb, &h) || h.len + ETH_LEN != skb->len)
		return to_stack();
	/* Nor may a checksum that is still to be made be written over what was
	 * checked. */
	if (spare_headers(skb, 0, &h))
		return drop_exit(skb->ifindex, EXIT_SPOOFED);
	if (forwarding(skb, &fib, skb->ifindex, &h, &h.src, &h.dst, wire_len(skb, &h), &hop) != e.uplink)
		return to_stack();
	if (!lower_ttl(skb, ETH_LEN, h.version))
		return TC_ACT_SHOT;
	c = counts_of(e.link);
	if (c)
		add(&c->out, 1, h.len);
	observe(ACTION_UPLINK, 0, 0, e.uplink);
	return bpf_redirect_neigh(e.uplink, &hop, sizeof(hop), 0);
}
