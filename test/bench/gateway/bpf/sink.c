/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */

/* Counts what arrives outside for the discard port (RFC 863) and takes it away. */

#include "kernel.h"

enum { CPUS = 64, DISCARD = 9 };

const volatile __u32 expected; /* source address that it should have */

/* By CPU, so that two of them do not share a line of cache. */
struct {
	__u64 right, wrong; /* by source address */
	__u64 pad[6];
} taken[CPUS];

__u32 reflect; /* send back instead, so that flows are answered */

SEC("tc") int sink(struct __sk_buff *skb)
{
	struct {
		struct eth eth;
		struct ip4 ip;
		struct udp udp;
	} __packed h;

	if (skb->protocol != htons(ETH_P_IP) || bpf_skb_load_bytes(skb, 0, &h, sizeof h))
		return TC_ACT_UNSPEC;
	if (h.ip.version_ihl != 0x45 || h.ip.proto != IPPROTO_UDP || h.udp.dst != htons(DISCARD))
		return TC_ACT_UNSPEC;
	__u32 cpu = bpf_get_smp_processor_id() & (CPUS - 1);
	if (h.ip.src == expected)
		taken[cpu].right++;
	else
		taken[cpu].wrong++;
	if (!reflect)
		return TC_ACT_SHOT;

	/* Exchanging words leaves every checksum as it is. */
	struct eth eth = h.eth;
	__builtin_memcpy(h.eth.dst, eth.src, 6);
	__builtin_memcpy(h.eth.src, eth.dst, 6);
	__u32 addr = h.ip.src;
	h.ip.src = h.ip.dst;
	h.ip.dst = addr;
	h.udp.dst = h.udp.src;
	h.udp.src = htons(DISCARD);
	if (bpf_skb_store_bytes(skb, 0, &h, sizeof h, 0))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}
