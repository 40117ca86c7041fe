/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */

/* Sends frames, by BPF_PROG_TEST_RUN with live frames: each run of the program is
 * one frame. The kernel takes frames back as the stack left them, decapsulated and
 * translated, so the whole frame is written each time. */

#include "kernel.h"

#define MIX 0x9e3779b1u

enum {
	WORDS = 24,         /* of 8 bytes: the longest frame is 192 */
	CATCH_UP = 1000000, /* ns: what was not sent for so long is not made up for */
};

const volatile __u32 out;          /* interface to send from */
const volatile __u64 frame[WORDS]; /* what to send */
const volatile __u32 inner;        /* offset of the IPv4 header that flows differ in */
const volatile __u32 sum;          /* of that header without checksum and addresses */
const volatile __u32 flows = 1;    /* by UDP source port; 0: every frame is a flow of its own */
const volatile __u32 first = 1024; /* the flows' first source port */
const volatile __u32 sources;      /* how many source addresses they have, from the frame's own on; 0: that one */
const volatile __u32 entropy;      /* offset of what tells flows apart on the fabric */
const volatile __u32 wide;         /* it has 16 bits and begins at 0xc000, else 8 */

__u64 sent; /* also the number of the next frame */
__u64 gap;  /* ns between two frames; 0: as fast as it goes */
__u64 due;  /* when the next frame is to be sent, CLOCK_MONOTONIC in ns */

SEC("xdp") int generate(struct xdp_md *x)
{
	if (gap) {
		/* Waiting is done by frames that are not sent. */
		__u64 now = bpf_ktime_get_ns();
		if (now < due)
			return XDP_DROP;
		due = now - due > CATCH_UP ? now + gap : due + gap;
	}

	void *data = (void *)(long)x->data, *end = (void *)(long)x->data_end;
	__u64 *to = data, n = sent++;
	__u32 flow = flows ? n % flows : 0;

#define PUT(i) if ((void *)(to + (i) + 1) > end) goto put; to[i] = frame[i];
#define PUT4(i) PUT(i) PUT((i) + 1) PUT((i) + 2) PUT((i) + 3)
	PUT4(0) PUT4(4) PUT4(8) PUT4(12) PUT4(16) PUT4(20)
put:
	if (inner > 160 || entropy > 160)
		return XDP_ABORTED;
	struct {
		struct ip4 ip;
		struct udp udp;
	} __packed *h = data + inner;
	if ((void *)(h + 1) > end)
		return XDP_ABORTED;
	/* Multiplying by an odd number leads through all of 2^32 before anything comes
	 * again. */
	if (flows) {
		h->udp.src = htons(first + flow);
		if (sources)
			h->ip.src = htonl(htonl(h->ip.src) + flow * MIX % sources);
	} else {
		__u32 mixed = (__u32)n * MIX;
		flow = mixed & 0xffff;
		h->udp.src = htons(flow ? flow : 1);
		h->ip.dst = (h->ip.dst & 0xffff) | htonl(mixed >> 16);
	}
	if (!flows || sources) {
		__u32 src = h->ip.src, dst = h->ip.dst;
		h->ip.check = fold(sum + (src & 0xffff) + (src >> 16) + (dst & 0xffff) + (dst >> 16));
	}
	if (entropy) {
		__u8 *e = data + entropy;
		if ((void *)(e + 2) > end)
			return XDP_ABORTED;
		if (wide)
			*(__u16 *)e = htons(0xc000 | (flow & 0x3fff));
		else
			*e = flow;
	}
	return bpf_redirect(out, 0);
}
