package main

import (
	"testing"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func TestOffloadWords(t *testing.T) {
	passed := &v1.Passage{In: v1.Traffic{Packets: 12}, Out: v1.Traffic{Packets: 7}}
	for _, c := range []struct {
		n     *v1.NATStatus
		asked string
		want  string
	}{
		{nil, "", "auto"},
		{nil, "on", "on"},
		{&v1.NATStatus{}, "off", "off"}, // a gateway that does not tell
		{&v1.NATStatus{Offload: "kernel", OffloadReason: "the tenant's setting says so"}, "off", "kernel: the tenant's setting says so"},
		{&v1.NATStatus{Offload: "ebpf", Offloaded: passed}, "", "ebpf, 12 packets in, 7 out"},
		{&v1.NATStatus{Offload: "ebpf"}, "", "ebpf"},
	} {
		if got := offloadWords(c.n, c.asked); got != c.want {
			t.Errorf("%+v, asked for %q: %q, not %q", c.n, c.asked, got, c.want)
		}
	}
}
