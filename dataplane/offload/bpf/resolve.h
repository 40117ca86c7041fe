/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "flowhash.h"
#include "punt.h"

/* How an address of a routing domain is found: Domain.Resolve of package lookup,
 * and what package dataplane makes of it. */

/* lookup_record copies the record of a CA. The kernel may give the place of an
 * entry that was just deleted to another one while it is being read, which can be
 * another tenant's: so each entry says whose it is, and is asked before and
 * after. */
static __always_inline bool lookup_record(__u32 tenant, const struct addr *ca, struct record *out)
{
	struct record_key key = { .tenant = tenant, .ca = *ca };
	struct record *r = bpf_map_lookup_elem(&records, &key);

	if (!r)
		return false;
	*out = *r;
	barrier();
	return out->tenant == tenant && *(volatile __u32 *)&r->tenant == tenant;
}

static __always_inline struct route *lookup_route(__u32 tenant, const struct addr *ca)
{
	struct route_key key = { .bits = 8 * (sizeof(key) - sizeof(key.bits)), .table = tenant << 1 | !is_ipv4(ca), .ca = *ca };

	return bpf_map_lookup_elem(&routes, &key);
}

static __always_inline bool is_host(__u32 tenant, const struct addr *pa)
{
	struct host_key key = { .tenant = tenant, .pa = *pa };

	return bpf_map_lookup_elem(&hosts, &key);
}

/* is_at tells whether the PA is one of the record's host. */
static __always_inline bool is_at(const struct record *r, const struct addr *pa)
{
	struct team *t;

	if (same_addr(&r->pa, pa))
		return true;
	if (!r->team)
		return false;
	t = bpf_map_lookup_elem(&teams, &r->team);
	if (!t)
		return false;
	for (int i = 0; i < MAX_TEAM; i++)
		if (i < t->n && same_addr(&t->pa[i], pa))
			return true;
	return false;
}

/* choose_pa picks one of the record's PAs by the flow, among those not known to
 * be down. */
static __always_inline void choose_pa(const struct record *r, __u32 hash, struct addr *out)
{
	struct team *t;
	__u32 n, at;

	*out = r->pa;
	if (!r->team)
		return;
	t = bpf_map_lookup_elem(&teams, &r->team);
	if (!t)
		return;
	n = t->n;
	if (!n || n > MAX_TEAM)
		return;
	for (__u32 i = 0; i < MAX_TEAM; i++) {
		if (i >= n)
			return;
		at = ((hash >> 16) + i) % n;
		bound(at, MAX_TEAM);
		if (!(t->down >> at & 1)) {
			*out = t->pa[at];
			return;
		}
	}
}

/* hops are the equal next hops to a place. */
struct hops {
	__u32 n;
	__u32 set; /* where n is not 1 */
	struct hop one;
};

static __always_inline void hops_of(const struct route *rt, struct hops *hops)
{
	hops->n = rt->n;
	hops->set = rt->set;
	hops->one = rt->hop;
}

/* wildcards gives those that stand for the address, which no route covers. */
static __always_inline void wildcards(__u32 vsid, const struct addr *ca, struct hops *hops)
{
	struct subnet *v = bpf_map_lookup_elem(&vsids, &vsid);

	hops->set = !v ? 0 : is_ipv4(ca) ? v->wild4 : v->wild6;
	hops->n = hops->set ? 2 : 0; /* however many there are: they are in a set */
}

/* hop_record gives the record of a next hop. */
static __always_inline bool hop_record(__u32 tenant, const struct hop *hop, struct record *out)
{
	return lookup_record(tenant, &hop->ca, out) && !(out->flags & RECORD_ROUTER) && out->vsid == hop->vsid;
}

/* for_each_hop runs the body for the record of each next hop that has one, in
 * order, starting with first. */
#define for_each_hop(tenant, hops, first, rec, body)                                        \
	do {                                                                                \
		if ((hops)->n == 1) {                                                       \
			if (hop_record(tenant, &(hops)->one, rec)) {                        \
				body;                                                       \
			}                                                                   \
		} else if ((hops)->n) {                                                     \
			struct hop_set *set_ = bpf_map_lookup_elem(&hop_sets, &(hops)->set); \
			for (__u32 i_ = 0; set_ && i_ < MAX_HOPS && i_ < set_->n; i_++) {   \
				__u32 at_ = ((first) + i_) % set_->n;                       \
				bound(at_, MAX_HOPS);                                       \
				if (hop_record(tenant, &set_->hop[at_], rec)) {             \
					body;                                               \
				}                                                           \
			}                                                                   \
		}                                                                           \
	} while (0)

/* where is what Resolve gives. */
enum where {
	NOWHERE,   /* no route: for the wildcards */
	AT_RECORD, /* it has a record */
	AT_ROUTER, /* it is the distributed router's */
	ON_LINK,   /* of a subnet, and without a record */
	BEHIND,    /* behind the next hops */
};

struct place {
	struct record rec; /* AT_RECORD */
	struct hops hops;  /* BEHIND */
	__u32 vsid;        /* ON_LINK */
	__u8 where;
};

static __always_inline void resolve(__u32 tenant, const struct addr *ca, struct place *p)
{
	struct route *rt;

	if (lookup_record(tenant, ca, &p->rec)) {
		p->where = p->rec.flags & RECORD_ROUTER ? AT_ROUTER : AT_RECORD;
		return;
	}
	rt = lookup_route(tenant, ca);
	if (!rt) {
		p->where = NOWHERE;
	} else if (rt->kind == ROUTE_ON_LINK) {
		p->where = ON_LINK;
		p->vsid = rt->vsid;
	} else {
		p->where = BEHIND;
		hops_of(rt, &p->hops);
	}
}
