// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0

/* The fast path of the dataplane. The Go dataplane is complete and is the
 * reference: whatever a program here does with a packet, that one would do
 * likewise, byte for byte and reason for reason, and what is not done here is
 * taken to it as it came (punt.h).
 *
 *	fabric --> from_fabric --> outer.h, headers.h   codec
 *	                      \--> fabric.h             source, destination, decap --> port
 *	port   --> from_port   --> port.h               source, way
 *	                      \--> fabric.h or encap.h  --> another port, or the fabric
 *
 * Both run at the ingress of an interface, as classifiers whose word is the
 * action (direct action). */

#include "nat.h"
#include "neighbor.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* numbers has one of each enum, so that the object tells of their numbers: user
 * space compares them with its own. */
const volatile struct {
	enum pa_kind pa_kind;
	enum rule rule;
	enum subnet_flags subnet_flags;
	enum port_flags port_flags;
	enum dscp dscp;
	enum record_flags record_flags;
	enum route_kind route_kind;
	enum max max;
	enum verdict_dir verdict_dir;
	enum rate_numbers rate_numbers;
	enum event event;
	enum meta_numbers meta_numbers;
	enum action action;
	enum punt punt;
	enum drop_reason drop_reason;
} numbers = {};

/* from_fabric takes what arrives on an interface with provider addresses. What it
 * drops before the virtual subnet is known to be a tenant's may still be the
 * machine's own. */
SEC("tc")
int from_fabric(struct __sk_buff *skb)
{
	struct arrival a = {};
	struct subnet *v;
	struct traffic *t;
	struct port to = {};
	__u32 frame, slot;
	bool found, slow, known = false;
	int r;

	make_linear(skb);
	r = parse_outer(skb, &a.o);
	if (r == NOT_OURS) {
		observe(ACTION_PASS, 0, 0, 0);
		return TC_ACT_UNSPEC;
	}
	if (r < 0)
		return punt(skb, 0, 0, r, FROM_FABRIC);
	if (r)
		goto nobodys;
	frame = a.o.len + ETH_LEN - a.o.inner;
	r = parse_inner(skb, a.o.inner, frame, &a.h);

	found = lookup_station(a.o.vsid, a.h.dmac, &to);
	if (found) {
		a.tenant = to.tenant;
		slot = to.slot;
		slow = to.flags & PORT_SLOW;
	} else {
		v = bpf_map_lookup_elem(&vsids, &a.o.vsid);
		if (!v) {
			r = is_ours(&a.o.src) ? DROP_OUTER_SOURCE_OURS : DROP_VSID_UNKNOWN;
			goto nobodys;
		}
		a.tenant = v->tenant;
		slot = v->slot;
		slow = v->flags & SUBNET_SLOW;
	}
	if (slow)
		return punt(skb, a.o.vsid, a.tenant, PUNT_SLOW, FROM_FABRIC);
	if (!a.o.own)
		return punt(skb, a.o.vsid, a.tenant, PUNT_GROUP, FROM_FABRIC);
	if (a.o.len + ETH_LEN != skb->len)
		return punt(skb, a.o.vsid, a.tenant, PUNT_SHAPE, FROM_FABRIC);

	if (!r)
		r = spare_headers(skb, a.o.inner, &a.h);
	if (!r)
		r = decide_shape(skb, &a.h, frame);
	if (!r)
		r = check_addresses(&a.h);
	/* The same way as before, by the same tables: all is well with it. */
	if (nat_offload && !r && found && to.flags & PORT_COMPARTMENT)
		known = nat_known(&a, &to);
	if (known) {
		a.src_rule = a.o.rule;
		a.far = true;
	}
	if (!r && !known)
		r = check_source(&a);
	if ((r == DROP_SOURCE_PA_MISMATCH || r == DROP_SOURCE_CA_UNKNOWN) && !is_host(a.tenant, &a.o.src))
		r = DROP_SOURCE_PA_UNKNOWN;
	if (!r && !found)
		r = DROP_NOT_LOCAL;
	if (!r && !known)
		r = check_destination(&a, &to);
	if (!r && (a.src_rule == RULE_REWRITE || a.dst_rule == RULE_REWRITE))
		r = PUNT_REWRITE;
	if (!r && a.o.rule != a.src_rule && a.o.rule != a.dst_rule)
		r = DROP_ENCAP_MISMATCH;
	if (!r && found && to.flags & PORT_SLOW_IN)
		r = PUNT_POLICY;
	if (!r && found && to.flags & PORT_ASK_IN)
		r = ask_verdict(&a.h, to.ifindex, VERDICT_IN, to.policy, frame);
	if (!r && !decap_sets_family && (a.h.version == 6) != a.o.ipv6)
		r = PUNT_SHAPE;
	if (r < 0)
		return punt(skb, a.o.vsid, a.tenant, r, FROM_FABRIC);
	if (r || !a.far) {
		/* Nobody sends with our own address but us, whatever else is said
		 * of the packet. */
		if (is_ours(&a.o.src)) {
			r = DROP_OUTER_SOURCE_OURS;
			goto nobodys;
		}
	}
	if (!r && to.rates) {
		r = charge(to.rates, a.tenant, false, charged(skb->gso_size, &a.h, frame));
		if (r < 0)
			return punt(skb, a.o.vsid, a.tenant, r, FROM_FABRIC);
	}
	t = traffic_of(slot);
	if (t)
		add(&t->from_fabric, 1, a.o.len);
	if (r)
		return drop_packet(a.o.vsid, r);
	/* It may lead out of the routing domain. */
	if (nat_offload && to.flags & PORT_COMPARTMENT && !(to.flags & PORT_ASK_IN)) {
		r = nat_out(skb, &a, &to);
		if (r != NOT_TRANSLATED)
			return r;
	}
	return decap(skb, &a, &to);

nobodys:
	count_event(0, r);
	if (r != DROP_OUTER_SOURCE_OURS && !is_claimed(skb))
		count_event(0, LEFT_TO_STACK);
	observe(ACTION_DROP, r, 0, 0);
	return TC_ACT_UNSPEC;
}

/* from_port takes what a VM or a compartment sends. */
SEC("tc")
int from_port(struct __sk_buff *skb)
{
	struct departure d = {};
	/* One or the other: the stack is small. */
	union {
		struct tunnel tunnel;
		struct port out;
	} by = {};
	struct port *in;
	struct traffic *t;
	struct subnet *v;
	__u32 len = skb->len, cost = 0, n;
	int r;

	d.in.ifindex = skb->ifindex;
	in = bpf_map_lookup_elem(&ports, &d.in.ifindex);
	if (!in)
		return drop_packet(0, DROP_NO_PORT);
	d.in = *in;
	barrier(); /* see lookup_record */
	if (d.in.ifindex != skb->ifindex || *(volatile __u32 *)&in->ifindex != d.in.ifindex)
		return drop_packet(0, DROP_NO_PORT);
	if (d.in.flags & PORT_SLOW)
		return punt(skb, d.in.vsid, d.in.tenant, PUNT_SLOW, FROM_PORT);
	/* A guest chooses where a partial checksum is written. Where the kernel
	 * does not let us see that, user space looks. */
	if (!bpf_cast_to_kern_ctx && !(d.in.flags & PORT_COMPARTMENT))
		return punt(skb, d.in.vsid, d.in.tenant, PUNT_SHAPE, FROM_PORT);
	if (skb->vlan_present)
		return punt(skb, d.in.vsid, d.in.tenant, PUNT_SHAPE, FROM_PORT);

	make_linear(skb);
	r = parse_inner(skb, 0, len, &d.h);
	if (!r && !same_mac(d.h.smac, d.in.mac))
		r = DROP_SOURCE_MAC_MISMATCH;
	if (!r)
		r = spare_headers(skb, 0, &d.h);
	if (!r)
		r = decide_shape(skb, &d.h, len);
	/* An answer leaves by the port's own interface, and does not go to the other
	 * end directly, for which it would still be a frame to all stations. */
	if (r == PUNT_ARP && !answer_neighbor(skb, &d))
		return bpf_redirect(skb->ifindex, 0);
	if (!r)
		r = check_addresses(&d.h);
	if (!r)
		r = check_port_source(&d);
	if (!r && d.in.flags & PORT_SLOW_OUT)
		r = PUNT_POLICY;
	if (!r && d.in.flags & PORT_ASK_OUT)
		r = ask_verdict(&d.h, d.in.ifindex, VERDICT_OUT, d.in.policy, len);
	if (!r && d.in.rates) {
		cost = charged(skb->gso_size, &d.h, len);
		r = charge(d.in.rates, d.in.tenant, true, cost);
		if (r)
			cost = 0;
	}
	if (!r) {
		d.routed = same_mac(d.h.dmac, router_mac);
		d.hash = flow_hash(&d.h);
		r = find_way(&d);
	}
	if (!r) {
		if (d.to.flags & RECORD_HERE)
			r = forward_local(skb, &d, &by.out);
		else
			r = choose_tunnel(skb, &d, &by.tunnel);
		if (!r && !(d.to.flags & RECORD_HERE))
			r = encap(skb, &d, &by.tunnel);
	}
	if (r < 0 && cost)
		refund(d.in.rates, d.in.tenant, true, cost);
	if (r < 0)
		return punt(skb, d.in.vsid, d.in.tenant, r, FROM_PORT);
	t = traffic_of(d.in.slot);
	if (t)
		add(&t->from_ports, 1, len);
	if (r)
		return drop_packet(d.in.vsid, r);
	if (d.to.flags & RECORD_HERE)
		return to_port(skb, &by.out, by.out.vsid);

	if (d.to.vsid != d.in.vsid) {
		v = bpf_map_lookup_elem(&vsids, &d.to.vsid);
		t = v ? traffic_of(v->slot) : NULL;
	}
	if (t) {
		n = pieces(skb->gso_size, &d.h);
		add(&t->to_fabric, n, by.tunnel.len + (n - 1) * (by.tunnel.overhead + ETH_LEN + d.h.l4 - d.h.l3 + d.h.l4_len));
	}
	observe(ACTION_FABRIC, 0, d.to.vsid, by.tunnel.ifindex);
	return bpf_redirect_neigh(by.tunnel.ifindex, NULL, 0, 0);
}

/* hold is attached where it keeps the tables, to all of which it is bound, from
 * one process of user space to the next, and where nothing may go any further: at
 * user space's end of the link to it, and at tunnel devices that are there for
 * their sockets alone. */
SEC("tc")
int hold(__attribute__((unused)) struct __sk_buff *skb) { return TC_ACT_SHOT; }
