/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "kernel.h"

/* The tables, as package offload writes them (tables.go has the same structures,
 * and a test that compares both). Whoever changes what an entry means, or how it
 * is laid out, changes the layout's version there too.
 *
 * Everything is kept by routing domain: a tenant's number is part of each key, or
 * follows from the VSID or the port. A CA is unique within a routing domain, so
 * the number and the CA find a record, whichever virtual subnet it is in. */

/* addr is an address in network byte order, IPv4 as ::ffff:a.b.c.d: no packet may
 * carry that form itself. */
struct addr {
	__be32 w[4];
};

enum max { MAX_HOPS = 16, MAX_TEAM = 8 };

/* pas: what addresses of this machine on the fabric are. */
enum pa_kind {
	PA_TUNNEL = 1, /* a provider address of ours */
	PA_GROUP,      /* a multicast group that brings broadcasts */
	PA_REWRITE,    /* it stands for a CA */
};

struct pa {
	__u32 ifindex; /* of the interface that it is on */
	__u8 kind;
	__u8 pad[3];
};

/* How packets to a record travel: lookup.Rule. */
enum rule { RULE_NVGRE = 1, RULE_VXLAN, RULE_REWRITE };

/* vsids: whose a virtual subnet is. */
enum subnet_flags {
	SUBNET_SLOW = 1 << 0,   /* all of the tenant's packets are for user space */
	SUBNET_L2ONLY = 1 << 1, /* it has stations whose CAs are not known */
	SUBNET_LEARNS = 1 << 2, /* whose CAs are learned */
};

struct subnet {
	__u32 tenant;
	__u32 slot;  /* in traffic */
	__u32 wild4; /* the hop sets of the tenant's wildcards, by family; 0: none */
	__u32 wild6;
	__u8 rule;   /* the tenant's own */
	__u8 flags;
	__u8 pad[2];
};

/* ports: the interfaces that a VM or a compartment is behind, by their index.
 * stations: the same, by VSID and MAC. */
enum port_flags {
	PORT_COMPARTMENT = 1 << 0, /* it also speaks for what no route covers */
	PORT_SLOW_OUT = 1 << 1,    /* what it sends must pass layers that user space has */
	PORT_SLOW_IN = 1 << 2,     /* what it gets likewise */
	PORT_PEER = 1 << 3,        /* a veth: packets go to its other end directly */
	PORT_SLOW = 1 << 4,        /* as SUBNET_SLOW */
	PORT_ASK_OUT = 1 << 5,     /* lists say about what it sends: verdict.h */
	PORT_ASK_IN = 1 << 6,      /* about what it gets likewise */
};

enum dscp { DSCP_COPY = 0xff };

struct port {
	__u32 tenant;
	__u32 vsid;
	__u32 slot;
	__u32 mtu; /* the greatest IP packet that it takes; 0: any */
	__u32 ifindex;
	__u8 mac[6];
	__u8 flags;
	__u8 dscp; /* of outer packets; DSCP_COPY: the inner one's */
	__u32 policy; /* what verdicts must be made by */
	__u32 rates;  /* where its buckets are: rate.h; 0: it has none */
};

struct station_key {
	__u32 vsid;
	__u8 mac[6];
	__u8 pad[2];
};

/* records: where a CA is. */
enum record_flags {
	RECORD_HERE = 1 << 0,   /* at a PA of ours */
	RECORD_ROUTER = 1 << 1, /* no record: the distributed router's own address */
	RECORD_VM_MAC = 1 << 2, /* routed packets keep its MAC as their source */
};

struct record_key {
	__u32 tenant;
	struct addr ca;
};

struct record {
	__u32 tenant; /* again: see lookup_record */
	__u32 vsid;
	struct addr pa;
	__u32 team; /* 0: the PA alone */
	__u8 mac[6];
	__u8 rule;
	__u8 flags;
};

/* teams: all PAs of a host that has several, its record's own one first. */
struct team {
	__u8 n;
	__u8 down; /* a bit for each that is known not to be reachable */
	__u8 pad[2];
	struct addr pa[MAX_TEAM];
};

/* hosts: the PAs of a tenant's records. The value is of no meaning. */
struct host_key {
	__u32 tenant;
	struct addr pa;
};

/* routes: the subnets' prefixes and the customer routes, by longest prefix. */
enum route_kind { ROUTE_ON_LINK = 1, ROUTE_HOPS };

struct route_key {
	__u32 bits;  /* 32 more than the prefix has, 96 more than that for IPv4 */
	__u32 table; /* twice the tenant's number, and one more for IPv6: IPv4 is no part of ::/0 */
	struct addr ca;
};

struct hop {
	__u32 vsid;
	struct addr ca;
};

struct route {
	__u8 kind;
	__u8 n; /* next hops; if it is one, it is hop, else they are those of set */
	__u8 pad[2];
	__u32 vsid; /* on-link */
	__u32 set;
	struct hop hop;
};

/* hop_sets: equal next hops. */
struct hop_set {
	__u32 n;
	struct hop hop[MAX_HOPS];
};

/* settings: what holds for the machine. The entry in force is that of which
 * settings_now holds the place; the other one is written meanwhile. */
struct settings {
	struct addr source4, source6;  /* PAs of ours to send from; unset: none */
	__u32 ifindex4, ifindex6;      /* of the interfaces that they are on */
	__u32 mtu;                     /* the fabric's */
	__u32 punt;                    /* the interface to user space; 0: none */
	__u32 fabrics;                 /* how many interfaces the PAs are on */
	__u32 pad;
	__u64 punt_interval, punt_burst; /* nanoseconds: see punt.h */
	__u64 bulk_interval, bulk_burst;
};

/* buckets: what a tenant has used up of its share of user space. */
struct bucket {
	struct bpf_spin_lock lock;
	__u32 pad;
	__u64 next, next_bulk; /* nanoseconds: when the next packet is due */
};

/* traffic: packets and bytes of a virtual subnet, by slot. */
struct count {
	__u64 packets, bytes;
};

struct traffic {
	struct count from_fabric, to_fabric, from_ports, to_ports;
};

/* events: packets of a virtual subnet that went no further here: the reasons of
 * reasons.h, or PUNTED and why. VSID 0 is where no tenant is known; of those,
 * LEFT_TO_STACK counts the packets that were the machine's own. ANSWERED are requests
 * that were answered, which go no further either. */
enum event { PUNTED = 0x100, LEFT_TO_STACK = 0x200, ANSWERED = 0x300 };

struct event_key {
	__u32 vsid;
	__u32 event;
};

#define TABLE(name_, type_, key_, value_, max_, flags_) \
	struct {                                        \
		__uint(type, type_);                    \
		__uint(max_entries, max_);              \
		__uint(map_flags, flags_);              \
		__type(key, key_);                      \
		__type(value, value_);                  \
	} name_ SEC(".maps")

/* The sizes are set when the programs are loaded. */
TABLE(pas, BPF_MAP_TYPE_HASH, struct addr, struct pa, 1024, 0);
TABLE(vsids, BPF_MAP_TYPE_HASH, __u32, struct subnet, 1024, BPF_F_NO_PREALLOC);
TABLE(ports, BPF_MAP_TYPE_HASH, __u32, struct port, 1024, BPF_F_NO_PREALLOC);
TABLE(stations, BPF_MAP_TYPE_HASH, struct station_key, struct port, 1024, BPF_F_NO_PREALLOC);
TABLE(records, BPF_MAP_TYPE_HASH, struct record_key, struct record, 1024, BPF_F_NO_PREALLOC);
TABLE(hosts, BPF_MAP_TYPE_HASH, struct host_key, __u8, 1024, BPF_F_NO_PREALLOC);
TABLE(teams, BPF_MAP_TYPE_HASH, __u32, struct team, 1024, BPF_F_NO_PREALLOC);
TABLE(routes, BPF_MAP_TYPE_LPM_TRIE, struct route_key, struct route, 1024, BPF_F_NO_PREALLOC);
TABLE(hop_sets, BPF_MAP_TYPE_HASH, __u32, struct hop_set, 1024, BPF_F_NO_PREALLOC);
TABLE(settings, BPF_MAP_TYPE_ARRAY, __u32, struct settings, 2, 0);
TABLE(settings_now, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1, 0);
TABLE(buckets, BPF_MAP_TYPE_HASH, __u32, struct bucket, 1024, BPF_F_NO_PREALLOC);
TABLE(traffic, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct traffic, 1024, 0);
TABLE(events, BPF_MAP_TYPE_PERCPU_HASH, struct event_key, __u64, 1024, BPF_F_NO_PREALLOC);
