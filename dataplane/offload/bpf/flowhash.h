/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
#pragma once

#include "headers.h"

/* flow_hash is Headers.FlowHash of package packet: by it next hops, PAs and the
 * outer entropy are chosen, and a flow must keep its way when a packet of it goes
 * through user space. */

#define FLOW_SEED0 0x9e3779b97f4a7c15ULL
#define FLOW_SEED1 0xd6e8feb86659fd93ULL
#define FLOW_SEED2 0xc2b2ae3d27d4eb4fULL

/* mix folds the 128-bit product of two words, made of 32-bit products. */
static __always_inline __u64 mix(__u64 a, __u64 b)
{
	__u64 a0 = (__u32)a, a1 = a >> 32, b0 = (__u32)b, b1 = b >> 32;
	__u64 low = a0 * b0, m1 = a1 * b0, m2 = a0 * b1;
	__u64 carry = (low >> 32) + (__u32)m1 + (__u32)m2;

	return (a1 * b1 + (m1 >> 32) + (m2 >> 32) + (carry >> 32)) ^ (a * b);
}

static __always_inline __u64 half(const struct addr *a, int i)
{
	return (__u64)a->w[2 * i] | (__u64)a->w[2 * i + 1] << 32;
}

static __always_inline __u32 flow_hash(const struct headers *h)
{
	__u64 x = mix(half(&h->src, 0) ^ FLOW_SEED0, half(&h->src, 1) ^ FLOW_SEED1);
	__u64 y = mix(half(&h->dst, 0) ^ FLOW_SEED1, half(&h->dst, 1) ^ FLOW_SEED2);
	__u64 ports = (__u64)h->proto << 32 | (__u32)h->sport << 16 | h->dport;
	__u64 z = mix(mix(x ^ FLOW_SEED2, y ^ FLOW_SEED0) ^ FLOW_SEED0, ports ^ FLOW_SEED1);

	z = mix(z ^ FLOW_SEED2, FLOW_SEED1);
	return (__u32)(z >> 32) ^ (__u32)z;
}
