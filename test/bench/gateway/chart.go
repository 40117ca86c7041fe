//go:build linux

package gateway

import "github.com/hnvgate/hnvgate/test/bench"

// Chart is the drawing of what matters most.
func Chart(note string) bench.Chart {
	return bench.Chart{
		Title: "Gateways, compared with plain routing and NAT without an overlay", Against: Plain, Note: note,
		Groups: []bench.Metric{
			{Name: "tcp_up_1", Text: "TCP up, 1 stream"},
			{Name: "tcp_down_1", Text: "TCP down, 1 stream"},
			{Name: "tcp_up_4", Text: "TCP up, 4 streams"},
			{Name: "tcp_down_4", Text: "TCP down, 4 streams"},
			{Name: "udp64_256", Text: "64-byte packets, 256 flows"},
			{Name: "tcp_new", Text: "new TCP connections"},
			{Name: "udp64_256_gateway", Text: "processor time of a packet in the gateway alone (less is better)"},
			{Name: "udp_echo_p50", Text: "round trip at half load, median (less is better)"},
		},
	}
}
