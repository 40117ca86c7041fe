package dataplane

import (
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// entropies keeps what decides the paths of outer packets through the fabric.
type entropies []uint16

func (e *entropies) WriteBatch(frames []*packet.Frame) (int, error) {
	for _, f := range frames {
		var h encap.Header
		if encap.Parse(f.Bytes(), &h) == drop.None {
			*e = append(*e, h.SrcPort)
		}
	}
	return len(frames), nil
}

// A flow keeps its path from its first packet on, which is decided, to those for
// which that is remembered; and that path is the one of its hash.
func TestFlowKeepsItsPath(t *testing.T) {
	gw := hnv.CompartmentMAC(mustVSID(6000))
	for name, b := range map[string][]byte{
		"udp":   udp(gw, hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "x"),
		"echo":  ipFrame(gw, hnv.RouterMAC, "203.0.113.5", "10.1.1.11", 64, echo(), "x"),
		"other": ipFrame(gw, hnv.RouterMAC, "203.0.113.5", "10.1.1.11", 64, &layers.TCP{SrcPort: 7, DstPort: 9, ACK: true}, "x"),
		"ipv6":  udp(gw, hnv.RouterMAC, "2001:db8::5", "fd00:1::11", "x"),
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoad(t)
			var got entropies
			l.w = l.sw.NewWorker(&got)
			l.give(false, b)
			var h packet.Headers
			h.DecodeEthernet(b)
			var want encap.Header
			want.SetEntropy(h.FlowHash())
			if len(got) != len(l.frames) {
				t.Fatalf("%d packets came out, want %d", len(got), len(l.frames))
			}
			for i, e := range got {
				if e != want.SrcPort {
					t.Errorf("packet %d: source port %d, want %d", i, e, want.SrcPort)
				}
			}
		})
	}
}
