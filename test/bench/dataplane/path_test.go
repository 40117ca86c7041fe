package dataplane

import (
	"fmt"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

func BenchmarkPath(b *testing.B) { benchmarkPath(b, []int{1, 1e4, 1e6}) }

// benchmarkPath measures every path by how many flows and records there are.
func benchmarkPath(b *testing.B, many []int) {
	for _, to := range []way{encapsulate, decapsulate} {
		for _, records := range many {
			l := layout{records: records}
			for _, flows := range many {
				run := func(path string, f func(*testing.B)) {
					b.Run(fmt.Sprintf("way=%s/records=%s/flows=%s/path=%s", to, short(records), short(flows), path), f)
				}
				run("hit", func(b *testing.B) { newRig(b, l).hit(b, to, flows, nil) })
				run("first", func(b *testing.B) { newRig(b, l).first(b, to, flows, nil) })
				if flows == records {
					run("again", func(b *testing.B) { newRig(b, l).again(b, to, flows) })
					run("each", func(b *testing.B) { newRig(b, l).each(b, to, flows) })
				}
			}
		}
	}
}

// BenchmarkTunnel measures hits of one flow in every kind of tunnel.
func BenchmarkTunnel(b *testing.B) {
	for _, to := range []way{encapsulate, decapsulate} {
		for _, rule := range []hnv.Rule{hnv.RuleNVGRE, hnv.RuleVXLAN, hnv.RuleRewrite} {
			for _, outer6 := range []bool{false, true} {
				for _, inner6 := range []bool{false, true} {
					if rule == hnv.RuleRewrite && inner6 != outer6 {
						continue
					}
					l := layout{rule: rule, inner6: inner6, outer6: outer6}
					b.Run(fmt.Sprintf("way=%s/rule=%s/outer=%d/inner=%d", to, rule, version(outer6), version(inner6)), func(b *testing.B) {
						newRig(b, l).hit(b, to, 1, nil)
					})
				}
			}
		}
	}
}

// BenchmarkGateway measures packets between VMs and the outside of the routing
// domain, at the port of a compartment.
func BenchmarkGateway(b *testing.B) {
	for _, to := range []way{encapsulate, decapsulate} {
		l := layout{records: 1000, compartment: true}
		run := func(path string, f func(*testing.B, *rig)) {
			b.Run(fmt.Sprintf("way=%s/flows=10k/path=%s", to, path), func(b *testing.B) { f(b, newRig(b, l)) })
		}
		run("hit", func(b *testing.B, r *rig) { r.hit(b, to, 1e4, nil) })
		run("first", func(b *testing.B, r *rig) { r.first(b, to, 1e4, nil) })
	}
}

// BenchmarkSize measures packets of two sizes in a tunnel that has a checksum
// and in one that has none.
func BenchmarkSize(b *testing.B) {
	for _, outer6 := range []bool{false, true} {
		for _, size := range []int{64, 1400} {
			l := layout{rule: hnv.RuleVXLAN, outer6: outer6, size: size}
			b.Run(fmt.Sprintf("way=encap/rule=vxlan/outer=%d/size=%d", version(outer6), size), func(b *testing.B) {
				newRig(b, l).hit(b, encapsulate, 1, nil)
			})
		}
	}
}

func version(six bool) int {
	if six {
		return 6
	}
	return 4
}
