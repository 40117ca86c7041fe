/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

/* What the programs use of the kernel's headers, and nothing else: the numbers
 * and layouts here are part of its interface for user space and never change.
 * The one structure that is not, struct sk_buff, is relocated when the programs
 * are loaded (CO-RE). */

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef _Bool bool;

#define true 1
#define false 0
#define NULL ((void *)0)

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
/* The verifier looks at a function of this kind once, whoever calls it, and knows
 * nothing of its arguments but their types: pointers may be NULL to it. */
#define __global __attribute__((noinline))
#define __packed __attribute__((packed))
#define __weak __attribute__((weak))
#define __ksym __attribute__((section(".ksyms")))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define sizeof_member(type, member) sizeof(((type *)0)->member)

/* bound cuts x to less than max, a power of two, where the verifier must see it and
 * the compiler would leave it out. */
#define bound(x, max) asm volatile("%0 &= %1" : "+r"(x) : "i"((max) - 1))

#define barrier() asm volatile("" ::: "memory")

#define memcpy __builtin_memcpy
#define memset __builtin_memset

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the programs are written for little-endian machines"
#endif
#define htons(x) ((__be16)__builtin_bswap16(x))
#define ntohs(x) ((__u16)__builtin_bswap16(x))
#define htonl(x) ((__be32)__builtin_bswap32(x))
#define ntohl(x) ((__u32)__builtin_bswap32(x))

/* uapi/linux/bpf.h */

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
};

enum {
	BPF_NOEXIST = 1,
	BPF_F_NO_PREALLOC = 1,
	BPF_F_MMAPABLE = 1 << 10,

	BPF_F_RECOMPUTE_CSUM = 1,
	BPF_F_PSEUDO_HDR = 1 << 4,
	BPF_F_MARK_MANGLED_0 = 1 << 5,

	BPF_ADJ_ROOM_MAC = 1,
	BPF_F_ADJ_ROOM_FIXED_GSO = 1 << 0,
	BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 = 1 << 1,
	BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 = 1 << 2,
	BPF_F_ADJ_ROOM_ENCAP_L4_GRE = 1 << 3,
	BPF_F_ADJ_ROOM_ENCAP_L4_UDP = 1 << 4,
	BPF_F_ADJ_ROOM_ENCAP_L2_ETH = 1 << 6,
	BPF_F_ADJ_ROOM_DECAP_L3_IPV4 = 1 << 7,
	BPF_F_ADJ_ROOM_DECAP_L3_IPV6 = 1 << 8,
	BPF_F_ADJ_ROOM_DECAP_L4_GRE = 1 << 9,
	BPF_F_ADJ_ROOM_DECAP_L4_UDP = 1 << 10,
};
#define BPF_F_ADJ_ROOM_ENCAP_L2(len) (((__u64)(len) & 0xff) << 56)

struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 tc_index;
	__u32 cb[5];
	__u32 hash;
	__u32 tc_classid;
	__u32 data;
	__u32 data_end;
	__u32 napi_id;
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 data_meta;
	__u64 flow_keys __attribute__((aligned(8)));
	__u64 tstamp;
	__u32 wire_len;
	__u32 gso_segs;
	__u64 sk __attribute__((aligned(8)));
	__u32 gso_size;
};

struct bpf_spin_lock {
	__u32 val;
};

enum { AF_INET = 2, AF_INET6 = 10 };

/* What a packet is forwarded by, and the next hop that was found. */
struct bpf_fib_lookup {
	__u8 family;
	__u8 l4_protocol;
	__be16 sport, dport;
	__u16 tot_len;
	__u32 ifindex; /* that it came in by; then that it leaves by */
	union {
		__u8 tos;
		__be32 flowinfo;
	};
	__be32 src[4]; /* IPv4: the first one */
	__be32 dst[4]; /* then the next hop */
	__be16 h_vlan_proto, h_vlan_tci;
	__u8 smac[6], dmac[6];
};

enum { BPF_FIB_LKUP_RET_SUCCESS = 0, BPF_FIB_LKUP_RET_NO_NEIGH = 7 };

struct bpf_redir_neigh {
	__u32 family;
	__be32 hop[4]; /* IPv4: the first one */
};

/* The helpers, by their numbers. */
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static __u64 (*const bpf_ktime_get_coarse_ns)(void) = (void *)160;
static long (*const bpf_skb_store_bytes)(struct __sk_buff *skb, __u32 offset, const void *from, __u32 len, __u64 flags) = (void *)9;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static long (*const bpf_l4_csum_replace)(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags) = (void *)11;
static long (*const bpf_skb_vlan_pop)(struct __sk_buff *skb) = (void *)19;
static long (*const bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)23;
static long (*const bpf_skb_load_bytes)(struct __sk_buff *skb, __u32 offset, void *to, __u32 len) = (void *)26;
static long (*const bpf_skb_change_tail)(struct __sk_buff *skb, __u32 len, __u64 flags) = (void *)38;
static long (*const bpf_skb_pull_data)(struct __sk_buff *skb, __u32 len) = (void *)39;
static long (*const bpf_skb_change_head)(struct __sk_buff *skb, __u32 len, __u64 flags) = (void *)43;
static long (*const bpf_skb_adjust_room)(struct __sk_buff *skb, __s32 len_diff, __u32 mode, __u64 flags) = (void *)50;
static long (*const bpf_fib_lookup)(struct __sk_buff *skb, void *params, int plen, __u32 flags) = (void *)69;
static long (*const bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static long (*const bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;
static long (*const bpf_redirect_neigh)(__u32 ifindex, void *params, int plen, __u64 flags) = (void *)152;
static long (*const bpf_redirect_peer)(__u32 ifindex, __u64 flags) = (void *)155;

/* uapi/linux/pkt_cls.h */
enum {
	TC_ACT_UNSPEC = -1, /* the next filter's say, or the stack's */
	TC_ACT_SHOT = 2,
};

/* uapi/linux/if_packet.h */
enum {
	PACKET_HOST = 0,
	PACKET_MULTICAST = 2,
};

/* The wire. */

enum {
	ETH_P_IP = 0x0800,
	ETH_P_ARP = 0x0806,
	ETH_P_TEB = 0x6558,
	ETH_P_8021Q = 0x8100,
	ETH_P_IPV6 = 0x86dd,
	ETH_P_8021AD = 0x88a8,
};

enum {
	IPPROTO_HOPOPTS = 0,
	IPPROTO_ICMP = 1,
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
	IPPROTO_ROUTING = 43,
	IPPROTO_FRAGMENT = 44,
	IPPROTO_GRE = 47,
	IPPROTO_AH = 51,
	IPPROTO_ICMPV6 = 58,
	IPPROTO_DSTOPTS = 60,
};

struct ethhdr {
	__u8 dst[6];
	__u8 src[6];
	__be16 proto;
} __packed;

struct iphdr {
	__u8 ihl : 4, version : 4;
	__u8 tos;
	__be16 length;
	__be16 id;
	__be16 frag;
	__u8 ttl;
	__u8 protocol;
	__be16 check;
	__be32 saddr;
	__be32 daddr;
};

struct ip6hdr {
	__be32 flow; /* version, traffic class, flow label */
	__be16 payload;
	__u8 next;
	__u8 hops;
	__be32 saddr[4];
	__be32 daddr[4];
};

struct grehdr {
	__be16 flags;
	__be16 proto;
	__be32 key;
};

struct udphdr {
	__be16 source;
	__be16 dest;
	__be16 len;
	__be16 check;
};

struct vxlanhdr {
	__be32 flags;
	__be32 vni;
};

/* What the kernel knows of a packet that its struct for programs does not tell.
 * Only the members named here are read, wherever the running kernel has them. */
struct sk_buff {
	__u16 csum_start;
	__u16 csum_offset;
	unsigned char *head, *data;
	__u8 ip_summed : 2;
	__u8 encapsulation : 1;
} __attribute__((preserve_access_index));

enum { CHECKSUM_PARTIAL = 3 };

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;

/* READ_BITFIELD reads a bit field wherever the running kernel has it. */
enum { FIELD_OFFSET = 0, FIELD_SIZE = 1, FIELD_LSHIFT = 4, FIELD_RSHIFT = 5 };

#define READ_BITFIELD(s, field)                                                        \
	({                                                                             \
		const void *p_ = (const void *)(s) + __builtin_preserve_field_info((s)->field, FIELD_OFFSET); \
		__u64 v_ = 0;                                                          \
		/* Or the compiler folds the offset into the loads below. */           \
		asm volatile("" : "=r"(p_) : "0"(p_));                                 \
		switch (__builtin_preserve_field_info((s)->field, FIELD_SIZE)) {       \
		case 1:                                                                \
			v_ = *(const __u8 *)p_;                                        \
			break;                                                         \
		case 2:                                                                \
			v_ = *(const __u16 *)p_;                                       \
			break;                                                         \
		case 4:                                                                \
			v_ = *(const __u32 *)p_;                                       \
			break;                                                         \
		case 8:                                                                \
			v_ = *(const __u64 *)p_;                                       \
			break;                                                         \
		}                                                                      \
		v_ <<= __builtin_preserve_field_info((s)->field, FIELD_LSHIFT);        \
		v_ >>= __builtin_preserve_field_info((s)->field, FIELD_RSHIFT);        \
		v_;                                                                    \
	})
