//go:build privileged && linux

package scenario

import (
	"context"
	"syscall"
	"testing"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// TestDeadGatewayd kills gatewayd of a host, whose VMs do not notice: transfers go on,
// of ports with lists too, and neighbours are found that were forgotten. The next
// process goes on with what lists have let pass, the answers of which nothing else
// would let in.
func TestDeadGatewayd(t *testing.T) {
	const machine = "h1"
	began := pathOf(t, machine)
	t.Cleanup(func() {
		world.SetPath(machine, "")
		restart(t, machine, syscall.SIGTERM, began)
	})
	world.SetPath(machine, "ebpf")
	restart(t, machine, syscall.SIGTERM, "ebpf")
	list(t, []string{machine}, "contoso", "closed", "--priority 10 --out --allow")
	setPort(t, "c11", lab.PortSettings{ACL: "closed"})
	settled(t, machine)
	streams := map[string]*lab.Stream{}
	for _, name := range []string{"c11", "f11"} {
		streams[name+" down"] = endless(t, name, lab.VM{}, service.Down)
		streams[name+" to its neighbour"] = endless(t, name, vm(t, name[:1]+"21"), service.Up)
	}
	flowing(t, streams)
	areOpen(t, allOf(ways("c21", "c11", ""), ways("f21", "f11", "icmp tcp udp")))

	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	if err := world.Daemon(machine).Kill(ctx, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"c11", "f11"} {
		if out, err := world.Exec(ctx, name, "ip", "neigh", "flush", "all"); err != nil {
			t.Fatal(err, out)
		}
	}
	flowing(t, streams)
	for _, to := range []string{"f21", "f13"} {
		if err := world.Ping(ctx, "f11", vm(t, to).CA, patience); err != nil {
			t.Errorf("f11 to %s: %v", to, err)
		}
	}
	if _, err := world.StartGatewayd(ctx, machine); err != nil {
		t.Fatal(err)
	}
	if err := world.Ready(ctx, machine); err != nil {
		t.Fatal(err)
	}
	flowing(t, streams)
	areOpen(t, allOf(ways("c21", "c11", ""), ways("f21", "f11", "icmp tcp udp")))
	for name, s := range streams {
		if r, err := s.Progress(); err != nil || r.Error != "" {
			t.Errorf("%s: %v, %+v", name, err, r)
		}
	}
}
