package dataplane

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

func BenchmarkMigration(b *testing.B) { benchmarkMigration(b, []int{1, 1e4, 1e6}) }

// benchmarkMigration measures a live migration as the control plane sees it: from
// the call that says where a VM is now until the next packet of a flow to it,
// which is known already, has gone there.
func benchmarkMigration(b *testing.B, many []int) {
	for _, records := range many {
		b.Run(fmt.Sprintf("records=%s", short(records)), func(b *testing.B) {
			r := newRig(b, layout{records: records})
			s := r.flowsOf(encapsulate, 0, min(records, 1e4), nil)
			r.meet(b, encapsulate, s)
			one := r.flowsOf(encapsulate, 0, 1, nil)
			r.fabric.keep = true
			t, packets := r.settled(encapsulate, one), 0
			done := t.count()
			for i := 0; b.Loop(); i++ {
				moved := r.record(0)
				moved.PA = netip.AddrFrom4([4]byte{192, 168, 200, byte(i & 1)})
				t.start()
				err := r.sw.UpdateRecords(r.shape.RDID, []hnv.Record{moved}, nil)
				t.stop(0)
				if err != nil {
					b.Fatal(err)
				}
				packets++
				if r.pass(t, encapsulate, one, 0, 1); r.fabric.last != moved.PA {
					b.Fatalf("a packet went to %s, want %s", r.fabric.last, moved.PA)
				}
			}
			done()
			r.passed(b, &r.fabric, packets)
			t.report(b, "update")
		})
	}
}
