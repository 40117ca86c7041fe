//go:build privileged && linux

package control

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
)

// What the fast path cannot take, or is taken from it, is user space's, and told so
// with the reason; once it can be taken, it is. Packets pass all the time.
func TestWhatTheFastPathCannotTake(t *testing.T) {
	n := newNetwork(t)
	n.fast = true
	a, b := n.host("a", pa("192.168.1.1/24", "pa0")), n.host("b", pa("192.168.1.2/24", "pa0"))
	d := tenantOf("contoso", 5000, hnv.NVGRE)
	one, two := station(5000, 11, "192.168.1.1", hnv.RuleNVGRE), station(5000, 12, "192.168.1.2", hnv.RuleNVGRE)
	d.Records = append(d.Records, one, two)
	a.tenant(d)
	b.tenant(d)
	port := portOf("one", one, 1458)
	vm1 := a.vm(port, "10.1.1.11/24")
	vm2 := b.vm(portOf("two", two, 1458), "10.1.1.12/24")
	again := func() {
		t.Helper()
		a.provide()
		if err := a.w.Attach(port, "one"); err != nil {
			t.Fatal(err)
		}
	}
	is := func(what string, got Path, name, reason string) {
		t.Helper()
		if got.Name != name || !strings.Contains(got.Reason, reason) || (reason == "") != (got.Reason == "") {
			t.Errorf("%s takes the path %q (%s), want %q (%s)", what, got.Name, got.Reason, name, reason)
		}
	}
	pass := func() {
		t.Helper()
		transfer(t, vm1, vm2, "10.1.1.12", 1<<20)
		transfer(t, vm2, vm1, "10.1.1.11", 1<<20)
	}
	is("the port", a.w.PortPath("one"), "ebpf", "")
	is("the fabric", a.w.FabricPath("pa0"), "ebpf", "")
	pass()
	before := a.sw.Counters()

	// Somebody puts a filter of his own in the place.
	for _, link := range []string{"one", "pa0"} {
		argv := append(strings.Fields("--net="+netns.Path(a.ns)+" tc filter add dev "+link+" ingress pref 1000 handle 7 protocol all bpf bytecode"), "1,6 0 0 0,")
		if out, err := exec.Command("nsenter", argv...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	again()
	is("the port", a.w.PortPath("one"), "go", "filter")
	is("the fabric", a.w.FabricPath("pa0"), "go", "filter")
	pass()
	for _, link := range []string{"one", "pa0"} {
		if out := in(t, a.ns, "tc filter show dev "+link+" ingress"); strings.Contains(out, "hnv:") {
			t.Errorf("programs are left on %s: %s", link, out)
		}
		in(t, a.ns, "tc filter del dev "+link+" ingress pref 1000")
	}
	again()
	is("the port", a.w.PortPath("one"), "ebpf", "")
	is("the fabric", a.w.FabricPath("pa0"), "ebpf", "")
	pass()

	// Somebody takes the programs off.
	for _, link := range []string{"one", "pa0"} {
		in(t, a.ns, "tc qdisc del dev "+link+" clsact")
	}
	again()
	pass()
	if after := a.sw.Counters(); len(after) != len(before) {
		t.Errorf("counters of %d tenants, want %d", len(after), len(before))
	}

	// A port's rate is the programs' to keep.
	port.OutKbps = 1e6
	again()
	is("the port", a.w.PortPath("one"), "ebpf", "")
	pass()
	port.OutKbps = 0
	again()
	is("the port", a.w.PortPath("one"), "ebpf", "")

	// Nobody can read any more what the programs leave, which is ARP among others.
	in(t, a.ns, "ip link del "+a.w.fast.PuntLink())
	eventually(t, "the fast path is given up", func() bool { return a.w.FabricPath("pa0").Name == "go" })
	is("the port", a.w.PortPath("one"), "go", "cannot be read")
	is("the fabric", a.w.FabricPath("pa0"), "go", "cannot be read")
	in(t, vm1, "ip neigh flush dev eth0")
	pass()
	again()
	is("the port", a.w.PortPath("one"), "go", "cannot be read")
	pass()
	is("no port", a.w.PortPath("none"), "", "")
	is("no interface", a.w.FabricPath("none"), "", "")
}
