//go:build privileged && linux

package scenario

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// list makes an ACL on the machines, rule by rule, for as long as the test runs.
func list(t *testing.T, machines []string, tenant, name string, rules ...string) {
	t.Helper()
	for _, m := range machines {
		ctl(t, m, "acl", "add", tenant, name)
		undo(t, m, "acl", "delete", tenant, name)
		for _, r := range rules {
			ctl(t, m, slices.Concat([]string{"acl", "rule", "add", tenant, name}, strings.Fields(r))...)
		}
	}
}

// setPort gives the VM's port a list, until the test is over.
func setPort(t *testing.T, vm string, s lab.PortSettings) {
	t.Helper()
	if err := world.SetPort(t.Context(), vm, s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := world.SetPort(later(t), vm, lab.PortSettings{}); err != nil {
			t.Error(err)
		}
	})
}

// setSubnetACL gives a virtual subnet on the machine a list, until the test is
// over.
func setSubnetACL(t *testing.T, machine, tenant, vsid, name string) {
	t.Helper()
	ctl(t, machine, "subnet", "set", tenant, vsid, "--acl", name)
	undo(t, machine, "subnet", "set", tenant, vsid, "--no-acl")
}

// way is what somebody may try at a VM, or at the Internet where to is empty.
type way struct{ from, to, proto string }

func (w way) String() string { return fmt.Sprintf("%s to %s by %s", w.from, w.to, w.proto) }

// try takes the way once, as long as it may last.
func (w way) try(t *testing.T, timeout time.Duration) error {
	to := internet()
	if w.to != "" {
		to = vm(t, w.to).CA
	}
	var err error
	switch w.proto {
	case "icmp":
		err = world.Ping(t.Context(), w.from, to, timeout)
	case "tcp":
		_, err = world.Get(t.Context(), w.from, service80(to), 0, timeout)
	case "udp":
		_, err = world.Echo(t.Context(), w.from, serviceEcho(to), 0, 32, timeout)
	default:
		t.Fatalf("no such protocol: %s", w.proto)
	}
	return err
}

// ways gives those of all three protocols between two: the named ones are open.
func ways(from, to, open string) map[way]bool {
	out := map[way]bool{}
	for _, proto := range []string{"icmp", "tcp", "udp"} {
		out[way{from, to, proto}] = slices.Contains(strings.Fields(open), proto)
	}
	return out
}

// allOf joins maps of ways.
func allOf(list ...map[way]bool) map[way]bool {
	out := map[way]bool{}
	for _, m := range list {
		maps.Copy(out, m)
	}
	return out
}

// areOpen wants those ways to be open that the map says, and the others closed.
// The open ones come first: a flow that they leave behind must not open others.
func areOpen(t *testing.T, want map[way]bool) {
	t.Helper()
	for _, open := range []bool{true, false} {
		timeout := silence
		if open {
			timeout = patience
		}
		var wg sync.WaitGroup
		for w, is := range want {
			if is != open {
				continue
			}
			wg.Go(func() {
				if err := w.try(t, timeout); (err == nil) != open {
					t.Errorf("%v: open is %v, want %v (%v)", w, err == nil, open, err)
				}
			})
		}
		wg.Wait()
	}
}

// denied is what gatewayctl shows as denied by the tenant's lists on the machine.
func denied(t *testing.T, machine, tenant string) uint64 {
	t.Helper()
	var shown struct{ Status v1.TenantStatus }
	if err := json.Unmarshal([]byte(ctl(t, machine, "tenant", "show", tenant, "-o", "json")), &shown); err != nil {
		t.Fatal(err)
	}
	return packets(shown.Status.Counters.Drops, "acl-denied")
}

var gatewaydHosts = []string{"h1", "h2"}

// TestACL gives a VM of one tenant a list of what it may send, and at the same
// time a whole virtual subnet of the other, with the same addresses, one of what
// its VMs may get. Each holds for its own tenant, on hosts that run gatewayd;
// replies pass; who has no list is as free as before.
func TestACL(t *testing.T) {
	before := map[string]uint64{}
	for _, x := range world.Topology().Tenants {
		before[x.Name] = denied(t, "h1", x.Name)
	}
	list(t, gatewaydHosts, "contoso", "client",
		"--priority 100 --out --allow --proto tcp --dst-port 80",
		"--priority 200 --out --deny --proto icmp --dst 10.1.2.0/24",
		"--priority 300 --out --allow --proto icmp")
	list(t, gatewaydHosts, "fabrikam", "server",
		"--priority 100 --in --allow --proto udp --src 10.1.1.0/24 --dst-port 7",
		"--priority 200 --in --deny --proto udp --dst-port 1-1024",
		"--priority 300 --in --allow --proto icmp",
		"--priority 100 --out --allow")
	setPort(t, "c11", lab.PortSettings{ACL: "client"})
	// A port's own list stands in the place of its subnet's.
	list(t, []string{"h2"}, "fabrikam", "open", "--priority 1 --in --allow", "--priority 1 --out --allow")
	setPort(t, "f13", lab.PortSettings{ACL: "open"})
	for _, m := range gatewaydHosts {
		setSubnetACL(t, m, "fabrikam", "6001", "server")
	}

	settled(t, gatewaydHosts...)

	const everything = "icmp tcp udp"
	areOpen(t, allOf(
		ways("c11", "c12", "tcp icmp"), ways("c11", "c13", "tcp icmp"), ways("c11", "c21", "tcp"), ways("c11", "c22", "tcp"), ways("c11", "", "tcp icmp"),
		ways("c12", "c11", ""), ways("c13", "c11", ""), ways("c22", "c11", ""),
		ways("c12", "c13", everything), ways("c13", "c22", everything), ways("c22", "c12", everything), ways("c22", "", everything),

		ways("f12", "f11", "icmp udp"), ways("f13", "f11", "icmp udp"), ways("f21", "f11", "icmp"), ways("f22", "f11", "icmp"),
		ways("f11", "f12", everything), ways("f11", "f22", everything), ways("f21", "f22", everything),
		ways("f11", "f13", everything), ways("f22", "f13", everything), ways("f13", "", everything),
	))
	for _, x := range world.Topology().Tenants {
		if denied(t, "h1", x.Name) == before[x.Name] {
			t.Errorf("nothing of what the list of %s denied is told", x.Name)
		}
	}
	if out := ctl(t, "h1", "acl", "show", "contoso", "client"); !strings.Contains(out, vm(t, "c11").Port()) {
		t.Errorf("the list does not tell what names it:\n%s", out)
	}
	// A list that is in use stays.
	if _, err := world.Ctl(t.Context(), "h1", "acl", "delete", "contoso", "client"); err == nil || !strings.Contains(err.Error(), "v-c11") {
		t.Errorf("a list in use can be deleted, or is refused without saying why: %v", err)
	}
}

// TestACLOfCompartment gives the gateway's own port in a tenant's virtual network
// a list: what the tenant may have of the Internet, and the Internet of it.
func TestACLOfCompartment(t *testing.T) {
	before := denied(t, "gw", "contoso")
	list(t, []string{"gw"}, "contoso", "edge",
		"--priority 100 --in --deny --proto tcp --dst-port 80",
		"--priority 200 --in --allow",
		"--priority 100 --out --allow --proto tcp --dst 10.1.1.0/24")
	setSubnetACL(t, "gw", "contoso", "5000", "edge")
	settled(t, "gw")
	areOpen(t, allOf(
		ways("c11", "", "icmp udp"), ways("c12", "", "icmp udp"), ways("c21", "", "icmp udp"),
		ways("f11", "", "icmp udp tcp"), ways("f12", "", "icmp udp tcp"),
	))
	if denied(t, "gw", "contoso") == before {
		t.Error("nothing of what the compartment's list denied is told")
	}
	open := map[string]bool{}
	for _, m := range world.Mappings() { // each leads to a VM of 10.1.1.0/24
		open[m.Tenant] = true
		if id, err := world.Get(t.Context(), "inet", m.External, 0, patience); err != nil || id.Name != m.VM {
			t.Errorf("%s leads to %q, want %s (%v)", m.External, id.Name, m.VM, err)
		}
	}
	if !open["contoso"] {
		t.Error("contoso has no mapping: the test tests nothing")
	}
	ctl(t, "gw", "acl", "rule", "delete", "contoso", "edge", "--priority", "100", "--out")
	settled(t, "gw")
	for _, m := range world.Mappings() {
		open, timeout := m.Tenant == "fabrikam", patience
		if !open {
			timeout = silence
		}
		if _, err := world.Get(t.Context(), "inet", m.External, 0, timeout); (err == nil) != open {
			t.Errorf("%s of %s: open is %v (%v)", m.External, m.Tenant, err == nil, err)
		}
	}
}

// TestACLChangedUnderTransfer takes away rules under which transfers run: these
// stop within a second, whoever opened the connection, and the others go on. So do
// the neighbour tenant's between the same addresses.
func TestACLChangedUnderTransfer(t *testing.T) {
	streams := map[string]map[string]*lab.Stream{} // by tenant and neighbour, then by who opened
	for _, x := range world.Topology().Tenants {
		list(t, []string{"h1"}, x.Name, "work",
			"--priority 12 --out --allow --proto tcp --dst 10.1.1.12/32 --dst-port 9000",
			"--priority 13 --out --allow --proto tcp --dst 10.1.1.13/32 --dst-port 9000",
			"--priority 12 --in --allow --proto tcp --src 10.1.1.12/32 --dst-port 9000",
			"--priority 13 --in --allow --proto tcp --src 10.1.1.13/32 --dst-port 9000")
		p := x.Name[:1]
		setPort(t, p+"11", lab.PortSettings{ACL: "work"})
		for _, n := range []string{"12", "13"} {
			streams[x.Name+" "+n] = map[string]*lab.Stream{
				p + "11 at " + p + n:      endless(t, p+"11", vm(t, p+n), service.Down),
				p + n + " at " + p + "11": endless(t, p+n, vm(t, p+"11"), service.Down),
			}
		}
	}
	for _, cut := range []struct{ tenant, neighbour string }{{"contoso", "12"}, {"fabrikam", "13"}} {
		gone, rest := streams[cut.tenant+" "+cut.neighbour], map[string]*lab.Stream{}
		delete(streams, cut.tenant+" "+cut.neighbour)
		for _, s := range streams {
			maps.Copy(rest, s)
		}
		flowing(t, gone)
		for _, direction := range []string{"--in", "--out"} {
			ctl(t, "h1", "acl", "rule", "delete", cut.tenant, "work", "--priority", cut.neighbour, direction)
		}
		begin, then := time.Now(), bytesOf(t, gone)
		flowing(t, rest) // a megabyte each: a second, or more
		time.Sleep(time.Until(begin.Add(time.Second)))
		after := bytesOf(t, gone)
		flowing(t, rest)
		for name, n := range bytesOf(t, gone) {
			t.Logf("%s: %d bytes after the rule was gone", name, after[name]-then[name])
			if n > after[name] {
				t.Errorf("%s goes on without a rule: %d bytes, and %d when it had been gone for a second", name, n-then[name], after[name]-then[name])
			}
		}
	}
}

// bytesOf is how far each stream has come.
func bytesOf(t *testing.T, streams map[string]*lab.Stream) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for name, s := range streams {
		r, err := s.Progress()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = r.Bytes
	}
	return out
}

// TestMigrationWithACL moves a VM of each tenant with its list between hosts that
// run gatewayd, while it transfers. The list travels as configuration; what it
// lets the VM send goes on, what it does not let in stays out at both hosts.
func TestMigrationWithACL(t *testing.T) {
	streams := map[string]*lab.Stream{}
	closed := map[way]bool{}
	for _, x := range world.Topology().Tenants {
		p := x.Name[:1]
		list(t, gatewaydHosts, x.Name, "mobile",
			"--priority 100 --out --allow --proto tcp --dst-port 9000",
			"--priority 200 --out --allow --proto icmp",
			"--priority 100 --in --deny --proto tcp --src 10.1.1.12/32 --dst-port 80",
			"--priority 200 --in --allow --proto tcp --dst-port 80")
		setPort(t, p+"11", lab.PortSettings{ACL: "mobile"})
		t.Cleanup(func() { _ = world.Migrate(later(t), p+"11", "h1") })
		streams[p+"11 to its neighbour"] = endless(t, p+"11", vm(t, p+"12"), service.Up)
		streams[p+"11 to the Internet"] = endless(t, p+"11", lab.VM{}, service.Up)
		closed = allOf(closed, ways(p+"11", p+"12", "icmp"), ways(p+"12", p+"11", ""), ways(p+"13", p+"11", "tcp"))
	}
	flowing(t, streams)
	for _, host := range []string{"h2", "h1"} {
		for _, p := range []string{"c", "f"} {
			if err := world.Migrate(t.Context(), p+"11", host); err != nil {
				t.Fatal(err)
			}
		}
		flowing(t, streams)
		areOpen(t, closed)
	}
	flowing(t, streams)
}
