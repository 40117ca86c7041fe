//go:build privileged && linux

package offload

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Whatever somebody on the fabric forges: what must not pass is delivered to nobody,
// by the programs and by the Switch, and is counted; what may pass comes out where it
// belongs and nowhere else, as it was.
func TestForgedPackets(t *testing.T) {
	g := newExampleRig(t, attackTenants, mtuHere)
	r := rand.New(rand.NewPCG(2, 3))
	whys, n, passed := map[string]int{}, map[action]int{}, 0
	for i := range 20000 {
		a := drawAttack(t, r, i)
		if a.src.Is6() != a.dst.Is6() {
			continue
		}
		b := a.outer()
		want := a.belongs(t)
		whys[want.why]++
		got := g.program(g.k.fabric, g.fabric.Index, append(ether(g.fabric, b), b...))
		all := g.reference(func(f *packet.Frame) {
			f.Set(b)
			g.worker.FromProvider([]*packet.Frame{f})
		})
		g.count(got)
		n[got.action]++
		if got.action == actionPort || got.action == actionFabric || got.action == actionUplink {
			passed++
		}
		g.checkProgram(a, want, got)
		g.checkSwitch(a, want, all)
		if t.Failed() {
			t.Fatalf("%s\nis due to %q: %s\nprograms: %s\nSwitch:   %v", a, want.ports, want.why, got, all)
		}
	}
	g.checkCounters()
	for _, why := range slices.Sorted(maps.Keys(whys)) {
		t.Logf("%6d %s", whys[why], why)
	}
	t.Logf("the programs delivered %d, dropped %d, left %d to the Switch and %d to the stack", passed, n[actionDrop], n[actionPunt], n[actionPass])
	if len(whys) < 15 || passed < 1000 || n[actionDrop] < 5000 {
		t.Error("the test tests little")
	}
}

func (g *exampleRig) checkProgram(a attack, want due, got verdict) {
	g.t.Helper()
	switch got.action {
	case actionPort:
		if len(want.ports) != 1 || got.out != uint32(g.ports[g.ids[want.ports[0]]].Ifindex) || !bytes.Equal(got.bytes, a.inner()) {
			g.t.Error("the programs deliver it")
		}
	case actionDrop:
		if len(want.ports) > 0 || got.reason == 0 {
			g.t.Error("the programs drop it")
		}
	case actionPass:
		if want.ours {
			g.t.Error("the programs leave it to the machine's stack, uncounted")
		}
	case actionPunt: // what the Switch does holds
	default:
		g.t.Error("the programs send it on")
	}
}

func (g *exampleRig) checkSwitch(a attack, want due, all []verdict) {
	g.t.Helper()
	var ports []string
	drops := 0
	for _, v := range all {
		switch v.action {
		case actionDrop:
			drops++
		case actionPort:
			for name, id := range g.ids {
				if uint32(g.ports[id].Ifindex) == v.out {
					ports = append(ports, name)
				}
			}
			if !bytes.Equal(v.bytes, a.inner()) {
				g.t.Error("the Switch changes it")
			}
		case actionFabric:
			g.t.Error("the Switch sends it to the fabric")
		}
	}
	slices.Sort(ports)
	if wanted := slices.Sorted(slices.Values(want.ports)); !slices.Equal(ports, wanted) {
		g.t.Errorf("the Switch gives it to %q", ports)
	}
	if wanted := map[bool]int{true: 1}[len(want.ports) == 0]; drops != wanted {
		g.t.Errorf("the Switch counts %d drops", drops)
	}
}
