/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

/* What the programs use of the kernel's interface for user space, whose numbers
 * and layouts never change; so that clang needs no headers of any machine. */

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __packed __attribute__((packed))

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the programs are written for little-endian machines"
#endif
#define htons(x) ((__u16)__builtin_bswap16(x))
#define htonl(x) ((__u32)__builtin_bswap32(x))

struct xdp_md {
	__u32 data;
	__u32 data_end;
};

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
};

enum {
	XDP_ABORTED = 0,
	XDP_DROP = 1,

	TC_ACT_UNSPEC = -1, /* the stack's say */
	TC_ACT_SHOT = 2,

	ETH_P_IP = 0x0800,
	ETH_P_TEB = 0x6558,
	IPPROTO_UDP = 17,
	IPPROTO_GRE = 47,

	BPF_ADJ_ROOM_MAC = 1,
	BPF_F_ADJ_ROOM_FIXED_GSO = 1 << 0,
	BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 = 1 << 1,
	BPF_F_ADJ_ROOM_ENCAP_L4_GRE = 1 << 3,
	BPF_F_ADJ_ROOM_ENCAP_L4_UDP = 1 << 4,
	BPF_F_ADJ_ROOM_ENCAP_L2_ETH = 1 << 6,
	BPF_F_ADJ_ROOM_DECAP_L3_IPV4 = 1 << 7,
};
#define BPF_F_ADJ_ROOM_ENCAP_L2(len) (((__u64)(len) & 0xff) << 56)

/* The helpers, by their numbers. */
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static __u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static long (*const bpf_skb_store_bytes)(struct __sk_buff *skb, __u32 offset, const void *from, __u32 len, __u64 flags) = (void *)9;
static long (*const bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)23;
static long (*const bpf_skb_load_bytes)(const struct __sk_buff *skb, __u32 offset, void *to, __u32 len) = (void *)26;
static __u32 (*const bpf_get_hash_recalc)(struct __sk_buff *skb) = (void *)34;
static long (*const bpf_skb_adjust_room)(struct __sk_buff *skb, int len_diff, __u32 mode, __u64 flags) = (void *)50;
static long (*const bpf_redirect_peer)(__u32 ifindex, __u64 flags) = (void *)155;

/* The wire. */

struct eth {
	__u8 dst[6], src[6];
	__u16 proto;
} __packed;

struct ip4 {
	__u8 version_ihl, tos;
	__u16 len, id, frag;
	__u8 ttl, proto;
	__u16 check;
	__u32 src, dst;
} __packed;

struct udp {
	__u16 src, dst, len, check;
} __packed;

/* RFC 7637 */
struct nvgre {
	__u16 flags, proto;
	__u32 key; /* VSID << 8 | FlowID */
} __packed;

/* RFC 7348 */
struct vxlan {
	__u32 flags, vni; /* VNI << 8 */
} __packed;

/* fold ends a sum of 16-bit words as the Internet checksum (RFC 1071). */
static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

char _license[] SEC("license") = "Dual BSD/GPL";
