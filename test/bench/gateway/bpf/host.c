/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */

/* The least that can stand for a tenant host, the same in front of every gateway:
 * it encapsulates what its one VM sends, or only addresses it to the gateway where
 * there is no overlay, and the other way round. */

#include "kernel.h"

enum { PLAIN = 0, NVGRE = 1, VXLAN = 2, DISCARD = 9 };

const volatile __u32 kind;
const volatile __u32 vsid;   /* of the gateway's subnet */
const volatile __u32 pa, ca; /* the host's and the VM's address */
const volatile __u32 gateway_pa;
const volatile __u8 pa_mac[6], gateway_mac[6];     /* on the fabric */
const volatile __u8 router_mac[6], compartment_mac[6]; /* inside */
const volatile __u8 vm_mac[6];
const volatile __u32 pa_link, vm_link; /* interfaces */

/* When the first packet arrived that was sent to another address of the host. */
__u32 watched;
__u64 seen; /* CLOCK_MONOTONIC, ns; 0: none yet */

static __always_inline void copy(__u8 *to, const volatile __u8 *from)
{
#pragma unroll
	for (int i = 0; i < 6; i++)
		to[i] = from[i];
}

struct outer {
	struct eth eth;
	struct ip4 ip;
} __packed;

struct nvgre_frame {
	struct outer o;
	struct nvgre g;
	struct eth inner;
} __packed;

struct vxlan_frame {
	struct outer o;
	struct udp u;
	struct vxlan v;
	struct eth inner;
} __packed;

/* fill writes the outer headers of a packet of len bytes from its IP header on. */
static __always_inline void fill(struct outer *o, struct eth *inner, __u8 proto, __u32 len)
{
	copy(o->eth.dst, gateway_mac);
	copy(o->eth.src, pa_mac);
	o->eth.proto = htons(ETH_P_IP);
	o->ip = (struct ip4){
		.version_ihl = 0x45, .ttl = 64, .proto = proto, .len = htons(len), .frag = htons(0x4000), .src = pa, .dst = gateway_pa
	};
	__u32 sum = 0;
	__u16 words[10];
	__builtin_memcpy(words, &o->ip, sizeof words);
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	o->ip.check = fold(sum);
	copy(inner->dst, compartment_mac);
	copy(inner->src, router_mac);
	inner->proto = htons(ETH_P_IP);
}

SEC("tc") int from_vm(struct __sk_buff *skb)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L2(14) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH;

	if (skb->protocol != htons(ETH_P_IP))
		return TC_ACT_UNSPEC;
	if (kind == PLAIN) {
		struct eth eth;
		copy(eth.dst, gateway_mac);
		copy(eth.src, pa_mac);
		eth.proto = htons(ETH_P_IP);
		if (bpf_skb_store_bytes(skb, 0, &eth, sizeof eth, 0))
			return TC_ACT_SHOT;
		return bpf_redirect(pa_link, 0);
	}
	__u32 hash = bpf_get_hash_recalc(skb);
	__u32 len = skb->len - sizeof(struct eth);
	if (kind == NVGRE) {
		struct nvgre_frame f = {};
		fill(&f.o, &f.inner, IPPROTO_GRE, len + sizeof f - sizeof(struct eth));
		f.g = (struct nvgre){.flags = htons(0x2000), .proto = htons(ETH_P_TEB), .key = htonl(vsid << 8 | (hash & 0xff))};
		if (bpf_skb_adjust_room(skb, sizeof f - sizeof(struct eth), BPF_ADJ_ROOM_MAC, flags | BPF_F_ADJ_ROOM_ENCAP_L4_GRE) ||
		    bpf_skb_store_bytes(skb, 0, &f, sizeof f, 0))
			return TC_ACT_SHOT;
	} else {
		struct vxlan_frame f = {};
		fill(&f.o, &f.inner, IPPROTO_UDP, len + sizeof f - sizeof(struct eth));
		f.u = (struct udp){.src = htons(0xc000 | (hash & 0x3fff)), .dst = htons(4789), .len = htons(len + sizeof f - sizeof f.o)};
		f.v = (struct vxlan){.flags = htonl(0x08000000), .vni = htonl(vsid << 8)};
		if (bpf_skb_adjust_room(skb, sizeof f - sizeof(struct eth), BPF_ADJ_ROOM_MAC, flags | BPF_F_ADJ_ROOM_ENCAP_L4_UDP) ||
		    bpf_skb_store_bytes(skb, 0, &f, sizeof f, 0))
			return TC_ACT_SHOT;
	}
	return bpf_redirect(pa_link, 0);
}

/* tunnel gives the length of a tunnel's outer headers without Ethernet's, or 0. */
static __always_inline int tunnel(struct __sk_buff *skb, struct ip4 *ip)
{
	struct {
		struct udp u;
		struct vxlan v;
	} __packed v;

	if (kind == NVGRE && ip->proto == IPPROTO_GRE)
		return sizeof(struct ip4) + sizeof(struct nvgre);
	if (kind == VXLAN && ip->proto == IPPROTO_UDP && !bpf_skb_load_bytes(skb, sizeof(struct outer), &v, sizeof v) &&
	    v.u.dst == htons(4789))
		return sizeof(struct ip4) + sizeof v;
	return 0;
}

SEC("tc") int from_wire(struct __sk_buff *skb)
{
	struct {
		struct eth eth;
		struct ip4 ip;
		struct udp udp;
	} __packed h;

	if (skb->protocol != htons(ETH_P_IP) || bpf_skb_load_bytes(skb, 0, &h, sizeof(struct outer)))
		return TC_ACT_UNSPEC;
	if (kind != PLAIN) {
		int len = tunnel(skb, &h.ip);
		if (!len)
			return TC_ACT_UNSPEC;
		if (h.ip.dst == watched && !seen)
			seen = bpf_ktime_get_ns();
		if (bpf_skb_adjust_room(skb, -(len + (int)sizeof(struct eth)), BPF_ADJ_ROOM_MAC,
					BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_DECAP_L3_IPV4) ||
		    bpf_skb_load_bytes(skb, 0, &h, sizeof(struct outer)))
			return TC_ACT_SHOT;
	}
	if (h.ip.dst != ca)
		return kind == PLAIN ? TC_ACT_UNSPEC : TC_ACT_SHOT;
	/* What the sink sends back has done its work in the gateway. */
	if (h.ip.proto == IPPROTO_UDP && (bpf_skb_load_bytes(skb, sizeof(struct outer), &h.udp, sizeof h.udp) || h.udp.src == htons(DISCARD)))
		return TC_ACT_SHOT;
	copy(h.eth.dst, vm_mac);
	copy(h.eth.src, router_mac);
	h.eth.proto = htons(ETH_P_IP);
	if (bpf_skb_store_bytes(skb, 0, &h.eth, sizeof h.eth, 0))
		return TC_ACT_SHOT;
	return bpf_redirect_peer(vm_link, 0);
}
