/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "conntrack.h"
#include "encap.h"
#include "external.h"

/* Established connections, translated here and not in the compartment.
 *
 * The compartment's conntrack is the only one that knows connections: a flow is
 * remembered as it translates it, is asked about anew every REVALIDATE, and is
 * forgotten where conntrack does not know it as established any more. What opens
 * and closes connections goes through the compartment, and so does all that is not
 * TCP or UDP of the plainest kind.
 *
 * A change of what an exit may do gives it another generation, with which none of
 * its flows is believed without asking. */

/* nat_exits: the compartments whose connections are translated here, by slot;
 * nat_slots: the slot, by the interface of the compartment's port and by that of
 * its link to the outside. */
struct nat_exit {
	__u32 generation;
	__u32 on;     /* 0: nothing is translated here */
	__u32 port;   /* the interface of the compartment's port */
	__u32 link;   /* the gateway-side end of its ext */
	__u32 uplink; /* the interface to the outside */
	__u32 mtu;    /* the greatest IP packet that ext takes */
	__s32 netns;  /* the compartment's, as the gateway's namespace numbers it */
	__u32 tcp_ms; /* for how long an established connection lives without packets */
	__u32 udp_ms;
};

/* nat_flows: one direction of a connection. */
struct flow_key {
	__u32 from; /* the interface of the compartment's port, or to the outside */
	__u32 proto;
	struct addr src, dst;
	__be16 sport, dport;
};

/* What was found of a flow by the tables, and holds as long as none of them is
 * written: how a packet to the outside came, or how one from there goes on. */
struct arrived {
	struct addr pa; /* outer source */
	__u8 smac[6];
	__u8 rule;
	__u8 pad;
};

struct way {
	struct addr src, dst; /* as in tunnel */
	__u32 ifindex;
	__u16 overhead;
	__u8 vxlan, ipv6;
	__u32 mtu; /* the fabric's */
	__u32 hash;
	__u32 vsid; /* of the destination's record */
	__u32 slot; /* in traffic, of that */
	__u8 mac[6];
	__u8 free, keep_mac; /* see rewrite */
};

struct flow {
	struct flow_key key; /* again: the kernel may hand the place to another flow while it is read */
	__u32 slot;
	__u32 generation;
	struct ends as;
	struct bpf_redir_neigh hop; /* to the outside */
	__u32 pad;
	__u64 checked; /* when conntrack was asked; nanoseconds */
	__u64 touched; /* when it was told that the connection lives */
	__u64 epoch;   /* of the tables, when what follows was found */
	struct arrived arrived; /* of a flow to the outside */
	struct way way;         /* of one from there */
};

/* epoch is another number after each write to a table by which packets find their
 * way. */
TABLE(epoch, BPF_MAP_TYPE_ARRAY, __u32, __u64, 1, 0);

TABLE(nat_exits, BPF_MAP_TYPE_ARRAY, __u32, struct nat_exit, 1024, 0);
TABLE(nat_slots, BPF_MAP_TYPE_HASH, __u32, __u32, 1024, BPF_F_NO_PREALLOC);
TABLE(nat_flows, BPF_MAP_TYPE_LRU_HASH, struct flow_key, struct flow, 1024, 0);

/* nat_work is where a packet is worked on: it is more than the stack has room for. */
struct nat_work {
	struct headers h; /* as it came */
	struct flow_key key;
	struct flow flow;
	struct external e;
	struct bpf_fib_lookup fib;
	struct question question;
	struct departure d;
	struct tunnel t;
	__u64 bytes[5]; /* of headers, as they are written */
	__u64 now;
	__u64 epoch; /* read before anything is looked up */
	__u32 known; /* of a packet from the fabric: enum known */
};

TABLE(nat_work, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct nat_work, 1, 0);

/* The gateway's switch. */
const volatile bool nat_offload = false;

enum { NOT_TRANSLATED = -1 };

static const __u64 second = 1000000000ULL;
/* For so long a flow is believed. */
static const __u64 revalidate = 250000000ULL;
/* So long after its first packet conntrack takes a UDP flow for assured at the
 * earliest, and some. */
static const __u64 unassured = 2100000000ULL;


static __always_inline bool same_key(const struct flow_key *a, const struct flow_key *b)
{
	return a->from == b->from && a->proto == b->proto && a->sport == b->sport && a->dport == b->dport && same_addr(&a->src, &b->src) &&
	       same_addr(&a->dst, &b->dst);
}

static __always_inline void key_of(struct flow_key *k, __u32 from, const struct headers *h)
{
	k->from = from;
	k->proto = h->proto;
	k->src = h->src;
	k->dst = h->dst;
	k->sport = htons(h->sport);
	k->dport = htons(h->dport);
}

/* forget takes a flow out, and that of the answers, which come by the interface
 * back. */
static __always_inline void forget(struct nat_work *w, __u32 back)
{
	const struct ends *as = &w->flow.as;

	bpf_map_delete_elem(&nat_flows, &w->key);
	w->key.from = back;
	w->key.src = as->dst;
	w->key.dst = as->src;
	w->key.sport = htons(as->dport);
	w->key.dport = htons(as->sport);
	bpf_map_delete_elem(&nat_flows, &w->key);
}

/* What is known of a flow. */
enum known { NEW_FLOW, KNOWN_FLOW, OLD_FLOW };

/* recall copies a flow to w, and gives its exit. */
static __always_inline enum known recall(const struct flow_key *k, struct nat_work *w, __u64 now, struct nat_exit **x)
{
	struct flow *v = bpf_map_lookup_elem(&nat_flows, k);

	if (!v)
		return NEW_FLOW;
	w->flow = *v;
	barrier();
	if (!same_key(&w->flow.key, k) || !same_key((const struct flow_key *)(volatile void *)&v->key, k))
		return NEW_FLOW;
	*x = bpf_map_lookup_elem(&nat_exits, &w->flow.slot);
	if (!*x || !(*x)->on || (*x)->generation != w->flow.generation)
		return NEW_FLOW;
	return now - w->flow.checked < revalidate ? KNOWN_FLOW : OLD_FLOW;
}

/* learn asks conntrack about a flow, which the caller remembers then. Outwards, only the source
 * may become another, which must be one of the exit's; inwards only the destination:
 * what else is translated does not leave the compartment, or does not enter it. */
static __always_inline bool learn(struct __sk_buff *skb, const struct headers *h, const struct flow_key *k, struct nat_work *w, __u64 now,
				  bool outward, enum known known, struct nat_exit *x)
{
	__u32 generation = x->generation;
	struct flow *f = &w->flow;
	struct external *e = &w->e;
	bool touch;

	barrier(); /* a generation that is older than what is learnt is only looked at anew */
	touch = known != OLD_FLOW || now - f->touched >= second;
	switch (ask_conntrack(skb, &w->question, h, x->netns, touch ? x->tcp_ms : 0, touch ? x->udp_ms : 0, &f->as)) {
	case UNKNOWN:
		if (known == OLD_FLOW)
			bpf_map_delete_elem(&nat_flows, k);
		return false;
	case UNASSURED:
		/* It becomes so by being seen once it is old enough. */
		if (known == OLD_FLOW && now - f->touched >= unassured) {
			f->checked = now;
			f->touched = now;
			bpf_map_update_elem(&nat_flows, k, f, 0);
			return false;
		}
		touch = known != OLD_FLOW;
		break;
	case ESTABLISHED:
		break;
	}
	if (outward) {
		if (!same_addr(&f->as.dst, &h->dst) || f->as.dport != h->dport || same_addr(&f->as.src, &h->src))
			return false;
		if (!find_external(&f->as.src, e) || (!e->link && !find_share(&f->as.src, f->as.sport, e)) || e->link != x->link)
			return false;
		if (forwarding(skb, &w->fib, x->link, h, &f->as.src, &h->dst, wire_len(skb, h), &f->hop) != x->uplink)
			return false;
	} else if (!same_addr(&f->as.src, &h->src) || f->as.sport != h->sport || same_addr(&f->as.dst, &h->dst)) {
		return false;
	}
	f->key = *k;
	f->generation = generation;
	f->checked = now;
	if (touch)
		f->touched = now;
	return true;
}

/* plain tells whether packets of the kind are translated here. */
static __always_inline bool plain(const struct headers *h)
{
	return h->version && (h->proto == IPPROTO_TCP || h->proto == IPPROTO_UDP);
}

static __always_inline bool opens_or_closes(const struct headers *h)
{
	return h->proto == IPPROTO_TCP && h->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST);
}

static __always_inline __u64 sum_addrs(const struct addr *minus, const struct addr *plus)
{
	__u64 sum = 0;

	for (int i = 0; i < 4; i++)
		sum += (__u64)(__u32)~minus->w[i] + plus->w[i];
	return sum;
}

/* fold32 folds a sum to the difference that bpf_l4_csum_replace takes. */
static __always_inline __u32 fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

/* translate makes a packet one between other ends, behind an Ethernet header, and
 * lowers its TTL by hops. Its first helper may move the packet. */
static __always_inline bool translate(struct __sk_buff *skb, const struct headers *h, struct nat_work *w, __u8 hops)
{
	const struct ends *as = &w->flow.as;
	__u32 l4 = ETH_LEN + (h->version == 4 ? IPV4_LEN : IPV6_LEN);
	__u32 at = l4 + (h->proto == IPPROTO_TCP ? 16 : 6);
	__u64 flags = h->proto == IPPROTO_TCP ? 0 : BPF_F_MARK_MANGLED_0;
	__u32 addrs = fold32(sum_addrs(&h->src, &as->src) + sum_addrs(&h->dst, &as->dst));
	__u32 ports = (__u16)~htons(h->sport) + htons(as->sport) + (__u16)~htons(h->dport) + htons(as->dport);
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u8 *b = (void *)w->bytes;

	if (h->version == 4) {
		struct iphdr *ip = data + ETH_LEN;
		__u64 sum;
		if ((void *)(ip + 1) > end)
			return false;
		/* From the TTL to the ports. */
		sum = (__u16)~ip->check;
		sum += (__u64)(__u32)~ip->saddr + as->src.w[3] + (__u32)~ip->daddr + as->dst.w[3];
		sum += (__u16)~htons((__u16)hops << 8); /* the TTL is the upper byte of its word */
		b[0] = ip->ttl - hops;
		b[1] = ip->protocol;
		*(__u16 *)(b + 2) = ~fold(sum);
		*(__be32 *)(b + 4) = as->src.w[3];
		*(__be32 *)(b + 8) = as->dst.w[3];
		*(__be16 *)(b + 12) = htons(as->sport);
		*(__be16 *)(b + 14) = htons(as->dport);
		if (bpf_skb_store_bytes(skb, ETH_LEN + 8, b, 16, 0))
			return false;
	} else {
		struct ip6hdr *ip = data + ETH_LEN;
		if ((void *)(ip + 1) > end)
			return false;
		/* From the payload length to the ports. */
		*(__be16 *)b = ip->payload;
		b[2] = ip->next;
		b[3] = ip->hops - hops;
		for (int i = 0; i < 4; i++) {
			*(__be32 *)(b + 4 + 4 * i) = as->src.w[i];
			*(__be32 *)(b + 20 + 4 * i) = as->dst.w[i];
		}
		*(__be16 *)(b + 36) = htons(as->sport);
		*(__be16 *)(b + 38) = htons(as->dport);
		if (bpf_skb_store_bytes(skb, ETH_LEN + 4, b, 40, 0))
			return false;
	}
	if (h->proto == IPPROTO_UDP && !h->check)
		return true;
	return !bpf_l4_csum_replace(skb, at, 0, addrs, flags | BPF_F_PSEUDO_HDR) && !bpf_l4_csum_replace(skb, at, 0, fold(ports), flags);
}

static __always_inline struct nat_work *get_work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nat_work, &zero);
}

/* exit_at gives the exit that an interface belongs to. */
static __always_inline struct nat_exit *exit_at(__u32 ifindex, struct nat_work *w)
{
	__u32 *slot = bpf_map_lookup_elem(&nat_slots, &ifindex);
	struct nat_exit *x;

	if (!slot)
		return NULL;
	w->flow.slot = *slot;
	x = bpf_map_lookup_elem(&nat_exits, &w->flow.slot);
	return x && x->on && (x->port == ifindex || x->link == ifindex) ? x : NULL;
}

/* begin starts with a packet: what is found from now on is of this epoch, or of a
 * later one. */
static __always_inline struct nat_work *begin(void)
{
	struct nat_work *w = get_work();
	__u32 zero = 0;
	__u64 *e = bpf_map_lookup_elem(&epoch, &zero);

	if (!w || !e)
		return NULL;
	w->now = bpf_ktime_get_coarse_ns();
	w->epoch = *(volatile __u64 *)e;
	barrier();
	return w;
}

/* nat_known tells whether a packet from the fabric to the compartment behind the
 * port is of a flow that came the same way before, so that nothing about it is to
 * be looked up: the tables are the same. Whatever it tells, nat_out is for the same
 * packet. */
__global int nat_known(struct arrival *a, const struct port *to)
{
	struct nat_work *w = begin();
	struct nat_exit *x = NULL;

	if (!w || !a || !to)
		return false;
	w->known = NEW_FLOW;
	if (!plain(&a->h))
		return false;
	key_of(&w->key, to->ifindex, &a->h);
	w->known = recall(&w->key, w, w->now, &x);
	return w->known == KNOWN_FLOW && w->flow.epoch == w->epoch && same_addr(&w->flow.arrived.pa, &a->o.src) &&
	       same_mac(w->flow.arrived.smac, a->h.smac) && w->flow.arrived.rule == a->o.rule;
}

/* nat_out translates a packet from the fabric that leads out of the routing domain
 * through the compartment behind the port, which has room for it, and sends it to
 * the outside. The compartment and the gateway would have forwarded it, each with
 * one TTL less. */
__global int nat_out(struct __sk_buff *skb, struct arrival *a, const struct port *to)
{
	struct nat_work *w = get_work();
	struct nat_exit *x = NULL;
	struct exit_count *c;
	struct flow *f;
	struct traffic *t;
	__u32 bytes;

	if (!w || !a || !to || !plain(&a->h) || a->h.ttl <= 2)
		return NOT_TRANSLATED;
	f = &w->flow;
	if (w->known != NEW_FLOW)
		x = bpf_map_lookup_elem(&nat_exits, &f->slot);
	if (opens_or_closes(&a->h)) {
		if (x)
			forget(w, x->uplink);
		return NOT_TRANSLATED;
	}
	if (!x)
		x = exit_at(to->ifindex, w);
	if (!x || wire_len(skb, &a->h) > x->mtu || (to->mtu && wire_len(skb, &a->h) > to->mtu))
		return NOT_TRANSLATED;
	if (w->known != KNOWN_FLOW && !learn(skb, &a->h, &w->key, w, w->now, true, w->known, x))
		return NOT_TRANSLATED;
	if (ecn_of(a->o.tos, a->h.tos) < 0)
		return NOT_TRANSLATED;
	if (w->known != KNOWN_FLOW || f->epoch != w->epoch || !same_addr(&f->arrived.pa, &a->o.src)) {
		f->epoch = w->epoch;
		f->arrived.pa = a->o.src;
		memcpy(f->arrived.smac, a->h.smac, 6);
		f->arrived.rule = a->o.rule;
		bpf_map_update_elem(&nat_flows, &w->key, f, 0);
	}

	bytes = skb->len - a->o.inner;
	if (shrink(skb, a) || !translate(skb, &a->h, w, 2))
		return drop_packet(a->o.vsid, DROP_NO_BUFFER);
	t = traffic_of(to->slot);
	if (t)
		add(&t->to_ports, 1, bytes);
	c = counts_of(x->link);
	if (c)
		add(&c->nat_out, 1, a->h.len);
	observe(ACTION_UPLINK, 0, a->o.vsid, x->uplink);
	return bpf_redirect_neigh(x->uplink, &f->hop, sizeof(f->hop), 0);
}

/* depart finds the way of a translated packet as the Switch would: it came from the
 * compartment's port, which is w->d.in. */
__global int depart(struct __sk_buff *skb, struct nat_work *w)
{
	struct settings *s = get_settings();
	struct way *way;
	struct subnet *v;

	if (!w || !s)
		return NOT_TRANSLATED;
	w->d.free = false;
	if (check_port_source(&w->d))
		return NOT_TRANSLATED;
	w->d.hash = flow_hash(&w->d.h);
	if (find_way(&w->d) || w->d.to.flags & RECORD_HERE || choose_tunnel(skb, &w->d, &w->t))
		return NOT_TRANSLATED;
	v = bpf_map_lookup_elem(&vsids, &w->d.to.vsid);
	if (!v)
		return NOT_TRANSLATED;
	way = &w->flow.way;
	way->src = w->t.src;
	way->dst = w->t.dst;
	way->ifindex = w->t.ifindex;
	way->overhead = w->t.overhead;
	way->vxlan = w->t.vxlan;
	way->ipv6 = w->t.ipv6;
	way->mtu = s->mtu;
	way->hash = w->d.hash;
	way->vsid = w->d.to.vsid;
	way->slot = v->slot;
	memcpy(way->mac, w->d.to.mac, 6);
	way->free = w->d.free;
	way->keep_mac = w->d.src.flags & RECORD_VM_MAC;
	w->flow.epoch = w->epoch;
	return 0;
}

/* depart_again takes the way that was found before: what choose_tunnel looks at for
 * each packet. */
static __always_inline int depart_again(struct __sk_buff *skb, struct nat_work *w)
{
	const struct way *way = &w->flow.way;
	struct tunnel *t = &w->t;

	t->src = way->src;
	t->dst = way->dst;
	t->ifindex = way->ifindex;
	t->overhead = way->overhead;
	t->vxlan = way->vxlan;
	t->ipv6 = way->ipv6;
	t->tos = (w->d.in.dscp == DSCP_COPY ? w->d.h.tos & ~3 : w->d.in.dscp << 2) | (w->d.h.tos & 3);
	t->len = skb->len + t->overhead;
	w->d.hash = way->hash;
	w->d.to.vsid = way->vsid;
	memcpy(w->d.to.mac, way->mac, 6);
	w->d.free = way->free;
	w->d.src.flags = way->keep_mac;
	if (wire_len(skb, &w->d.h) + t->overhead + ETH_LEN > way->mtu || t->len > 0xffff)
		return NOT_TRANSLATED;
	if (t->ipv6 && t->vxlan && (skb->gso_size || skb->len != ETH_LEN + w->d.h.len))
		return NOT_TRANSLATED;
	return 0;
}

/* enter makes the packet one that the compartment's port has sent. */
static __always_inline bool enter(struct __sk_buff *skb, struct nat_work *w, const struct headers *h, __u32 port)
{
	struct port *in = bpf_map_lookup_elem(&ports, &port);

	if (!in)
		return false;
	w->d.in = *in;
	barrier(); /* see lookup_record */
	if (w->d.in.ifindex != port || *(volatile __u32 *)&in->ifindex != port)
		return false;
	w->d.h = *h;
	w->d.h.src = w->flow.as.src;
	w->d.h.dst = w->flow.as.dst;
	w->d.h.sport = w->flow.as.sport;
	w->d.h.dport = w->flow.as.dport;
	w->d.h.ttl = h->ttl - 2;
	memcpy(w->d.h.smac, w->d.in.mac, 6);
	memcpy(w->d.h.dmac, router_mac, 6);
	w->d.routed = true;
	return !(w->d.in.flags & (PORT_SLOW | PORT_SLOW_OUT | PORT_ASK_OUT)) && w->d.in.flags & PORT_COMPARTMENT &&
	       (!w->d.in.mtu || wire_len(skb, h) <= w->d.in.mtu) && !check_addresses(&w->d.h);
}

/* is_marked tells whether the kernel has marked a packet as tunnelled already, and
 * takes no second mark: see open_room. */
static __always_inline bool is_marked(struct __sk_buff *skb)
{
	struct sk_buff *k;

	if (!bpf_cast_to_kern_ctx)
		return skb->gso_size;
	k = bpf_cast_to_kern_ctx(skb);
	return READ_BITFIELD(k, encapsulation);
}

/* drop_sent drops what the compartment's port would have sent, and counts that it
 * did. */
static __always_inline int drop_sent(struct nat_work *w, __u32 len, int r)
{
	struct traffic *t = traffic_of(w->d.in.slot);

	if (t)
		add(&t->from_ports, 1, len);
	return drop_packet(w->d.in.vsid, r);
}

/* nat_in translates a packet from the outside, and sends it to the record of its
 * destination. The gateway, the compartment and the distributed router would have
 * forwarded it, each with one TTL less. */
__global int nat_in(struct __sk_buff *skb, const struct headers *h)
{
	__u32 len = skb->len, gso = skb->gso_size, from = skb->ifindex, n;
	struct nat_work *w = begin();
	struct nat_exit *x = NULL;
	struct exit_count *c;
	struct traffic *t;
	enum known known;
	int r;

	if (!w || !h || !plain(h) || h->ttl <= 3 || (gso && h->len + ETH_LEN != len))
		return NOT_TRANSLATED;
	key_of(&w->key, from, h);
	known = recall(&w->key, w, w->now, &x);
	if (opens_or_closes(h)) {
		if (known != NEW_FLOW && x)
			forget(w, x->port);
		return NOT_TRANSLATED;
	}
	if (known == NEW_FLOW) {
		if (!find_external(&h->dst, &w->e) || (!w->e.link && !find_share(&h->dst, h->dport, &w->e)))
			return NOT_TRANSLATED;
		x = exit_at(w->e.link, w);
	}
	if (!x || x->uplink != from || wire_len(skb, h) > x->mtu)
		return NOT_TRANSLATED;
	if (known != KNOWN_FLOW) {
		/* As from_uplink asks: see there. */
		if (forwarding(skb, &w->fib, from, h, &h->dst, &h->src, IPV4_LEN, &w->flow.hop) != from)
			return NOT_TRANSLATED;
		if (!learn(skb, h, &w->key, w, w->now, false, known, x))
			return NOT_TRANSLATED;
	}
	/* Ethernet fills short frames up. */
	if (h->len + ETH_LEN != len) {
		if (bpf_skb_change_tail(skb, h->len + ETH_LEN, 0))
			return NOT_TRANSLATED;
		len = skb->len;
	}
	if (spare_headers(skb, 0, h) || is_marked(skb) || !enter(skb, w, h, x->port))
		return NOT_TRANSLATED;
	if (known == KNOWN_FLOW && w->flow.epoch == w->epoch) {
		if (depart_again(skb, w))
			return NOT_TRANSLATED;
	} else {
		if (depart(skb, w))
			return NOT_TRANSLATED;
		bpf_map_update_elem(&nat_flows, &w->key, &w->flow, 0);
	}
	if (w->d.in.rates) {
		r = charge(w->d.in.rates, w->d.in.tenant, true, charged(gso, &w->d.h, len));
		if (r < 0)
			return NOT_TRANSLATED;
		if (r)
			return drop_sent(w, len, r);
	}
	if (!translate(skb, h, w, 2) || encap(skb, &w->d, &w->t))
		return drop_packet(w->d.in.vsid, DROP_NO_BUFFER);

	t = traffic_of(w->d.in.slot);
	if (t)
		add(&t->from_ports, 1, len);
	t = traffic_of(w->flow.way.slot);
	if (t) {
		n = pieces(gso, &w->d.h);
		add(&t->to_fabric, n, w->t.len + (n - 1) * (w->t.overhead + ETH_LEN + w->d.h.l4 - w->d.h.l3 + w->d.h.l4_len));
	}
	c = counts_of(x->link);
	if (c)
		add(&c->nat_in, 1, h->len);
	observe(ACTION_FABRIC, 0, w->d.to.vsid, w->t.ifindex);
	return bpf_redirect_neigh(w->t.ifindex, NULL, 0, 0);
}
