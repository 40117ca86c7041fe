//go:build privileged && linux

package scenario

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// eventually tries until it succeeds.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// recordAt is what the machine knows of the CA; nil if nothing.
func recordAt(t *testing.T, machine string, v lab.VM, ca netip.Addr) *v1.LookupRecord {
	t.Helper()
	var shown struct{ Items []v1.LookupRecord }
	out := ctl(t, machine, "record", "list", "--vsid", v.VSID.String(), "--ca", ca.String(), "-o", "json")
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		t.Fatal(err)
	}
	if len(shown.Items) == 0 {
		return nil
	}
	return &shown.Items[0]
}

// learned wants the machines to have a learned record of the VM's address, at the
// PA; or, without a PA, none at all.
func learned(t *testing.T, v lab.VM, ca netip.Addr, pa string, machines ...string) {
	t.Helper()
	for _, m := range machines {
		eventually(t, fmt.Sprintf("%s of %s at %s", ca, v.Name, m), func() error {
			r := recordAt(t, m, v, ca)
			switch {
			case r == nil && pa == "":
				return nil
			case r == nil || r.Type != "dynamic" || r.PA != pa || r.MAC != v.MAC.String():
				return fmt.Errorf("the record is %+v, want a dynamic one at %q", r, pa)
			}
			return nil
		})
	}
}

// gain gives the VM another address; announced, its kernel tells the subnet.
func gain(t *testing.T, v lab.VM, ca netip.Addr, announced bool) {
	t.Helper()
	bits := 24
	if ca.Is6() {
		bits = 64
	}
	in(t, v.Name, "ip", "addr", "add", netip.PrefixFrom(ca, bits).String(), "dev", "eth0")
	if announced && ca.Is4() {
		in(t, v.Name, "busybox", "arping", "-U", "-c", "1", "-I", "eth0", ca.String())
	}
}

func lose(t *testing.T, v lab.VM, ca netip.Addr) {
	t.Helper()
	bits := 24
	if ca.Is6() {
		bits = 64
	}
	in(t, v.Name, "ip", "addr", "del", netip.PrefixFrom(ca, bits).String(), "dev", "eth0")
}

// in is a command on a machine, which must succeed.
func in(t *testing.T, machine string, argv ...string) string {
	t.Helper()
	out, err := world.Exec(t.Context(), machine, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var gatewayds = []string{"gw", "h1", "h2"}

// learners makes the VMs, which are on h2, ones whose addresses nobody
// configured, in virtual subnets that allow learning; and nobody knows them.
func learners(t *testing.T, vms ...lab.VM) {
	t.Helper()
	t.Cleanup(func() {
		for _, v := range vms {
			if err := known(t, v); err != nil {
				t.Error(err)
			}
		}
	})
	for _, v := range vms {
		records := world.RecordsOf(v)
		in(t, v.Name, "sysctl", "-qw", "net.ipv6.conf.eth0.ndisc_notify=1")
		lose(t, v, v.CA)
		lose(t, v, v.CA6)
		for _, m := range gatewayds {
			for _, r := range records {
				ctl(t, m, "record", "delete", "--vsid", r.VSID.String(), "--ca", r.CA.String())
			}
			ctl(t, m, "subnet", "set", v.Tenant, v.VSID.String(), "--learning", "--learn-age", "4s")
			ctl(t, m, "record", "add", "--vsid", v.VSID.String(), "--type", "l2only", "--mac", v.MAC.String(), "--pa", records[0].PA.String())
		}
		for _, h := range independent(v) {
			for _, r := range records {
				if err := world.RemoveRecord(t.Context(), h, v.Tenant, r); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	settled(t, gatewayds...)
}

// independent gives the hosts of the VM's tenant that are not the product's: a
// controller tells them.
func independent(v lab.VM) []string {
	if v.Tenant == "contoso" {
		return []string{"h3"}
	}
	return []string{"h4"}
}

// tell tells the independent hosts where the VM is.
func tell(t *testing.T, v lab.VM) {
	t.Helper()
	for _, h := range independent(v) {
		for _, r := range world.RecordsOf(v) {
			if err := world.SetRecord(t.Context(), h, v.Tenant, r); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// known makes the VM again what it was: at home, with its addresses configured.
func known(t *testing.T, v lab.VM) error {
	ctx := later(t)
	if world.Where(v.Name) != v.Host {
		if err := world.Move(ctx, v.Name, v.Host); err != nil {
			return err
		}
	}
	var doc v1.Document
	for _, r := range world.RecordsOf(v) {
		doc.LookupRecords = append(doc.LookupRecords, v1.LookupRecord{VSID: r.VSID.Uint32(), CA: r.CA.String(), MAC: r.MAC.String(), PA: r.PA.String(), VMName: v.Name})
	}
	for _, m := range gatewayds {
		for _, c := range [][]string{
			{"subnet", "set", v.Tenant, v.VSID.String(), "--no-learning"},
			{"record", "delete", "--vsid", v.VSID.String(), "--mac", v.MAC.String()},
		} {
			if _, err := world.Ctl(ctx, m, c...); err != nil {
				return err
			}
		}
		if err := world.Apply(ctx, m, "known-"+v.Name+".yaml", doc); err != nil {
			return err
		}
	}
	for _, c := range [][]string{
		{"ip", "addr", "flush", "dev", "eth0", "scope", "global"},
		{"ip", "addr", "add", netip.PrefixFrom(v.CA, 24).String(), "dev", "eth0"},
		{"ip", "addr", "add", netip.PrefixFrom(v.CA6, 64).String(), "dev", "eth0"},
		{"ip", "route", "replace", "default", "via", "10.1.1.1"},
		{"ip", "route", "replace", "::/0", "via", "fd00:1:1::1", "dev", "eth0"},
	} {
		if _, err := world.Exec(ctx, v.Name, c...); err != nil {
			return err
		}
	}
	for _, h := range independent(v) {
		for _, r := range world.RecordsOf(v) {
			if err := world.SetRecord(ctx, h, v.Tenant, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestLearning has, in each tenant, a VM of whose addresses nothing is configured,
// on a host that runs gatewayd. What its kernel says of itself there becomes a
// record, and the gateway and the other host hear of it; what is configured wins;
// what falls silent is forgotten; and the VM moves, while gatewayds come and go.
func TestLearning(t *testing.T) {
	vms := []lab.VM{vm(t, "c13"), vm(t, "f13")}
	learners(t, vms...)
	pa := map[string]string{}
	for _, h := range gatewaydHosts {
		x, err := world.Topology().Host(h)
		if err != nil {
			t.Fatal(err)
		}
		pa[h] = x.PA.Addr().String()
	}
	extra := func(n byte) netip.Addr { return addr4([4]byte{10, 1, 1, n}) }
	const everything = "icmp tcp udp"

	for _, v := range vms {
		for _, m := range gatewayds {
			for _, ca := range []netip.Addr{v.CA, v.CA6} {
				if r := recordAt(t, m, v, ca); r != nil {
					t.Fatalf("%s knows %s before it is there: %+v", m, ca, r)
				}
			}
		}
		gain(t, v, v.CA, true)
		in(t, v.Name, "ip", "route", "replace", "default", "via", "10.1.1.1")
		gain(t, v, v.CA6, true)
		in(t, v.Name, "ip", "route", "replace", "::/0", "via", "fd00:1:1::1", "dev", "eth0")
	}
	for _, v := range vms {
		learned(t, v, v.CA, pa["h2"], gatewayds...)
		learned(t, v, v.CA6, pa["h2"], gatewayds...)
		tell(t, v)
	}
	areOpen(t, allOf(
		ways("c11", "c13", everything), ways("c12", "c13", everything), ways("c22", "c13", everything), ways("c13", "c21", everything), ways("c13", "", everything),
		ways("f11", "f13", everything), ways("f12", "f13", everything), ways("f22", "f13", everything), ways("f13", "f21", everything), ways("f13", "", everything),
	))
	for _, p := range []string{"c", "f"} {
		for _, n := range []string{"11", "22"} {
			if err := world.Ping(t.Context(), p+n, vm(t, p+"13").CA6, patience); err != nil {
				t.Error(err)
			}
		}
	}

	t.Run("asked for", func(t *testing.T) {
		for _, v := range vms {
			gain(t, v, extra(40), false)
			if err := world.Ping(t.Context(), v.Name[:1]+"11", extra(40), patience); err != nil {
				t.Error(err)
			}
			learned(t, v, extra(40), pa["h2"], gatewayds...)
		}
	})

	t.Run("static wins", func(t *testing.T) {
		for _, v := range vms {
			other := vm(t, v.Name[:1]+"12")
			for m, ca := range map[string]netip.Addr{"gw": extra(41), "h2": extra(42)} {
				ctl(t, m, "record", "add", "--vsid", v.VSID.String(), "--ca", ca.String(), "--mac", other.MAC.String(), "--pa", world.RecordsOf(other)[0].PA.String())
				undo(t, m, "record", "delete", "--vsid", v.VSID.String(), "--ca", ca.String())
			}
		}
		settled(t, gatewayds...)
		for _, v := range vms {
			for _, ca := range []netip.Addr{extra(41), extra(42)} {
				gain(t, v, ca, true)
			}
			learned(t, v, extra(41), pa["h2"], "h2", "h1")
			for m, ca := range map[string]netip.Addr{"gw": extra(41), "h2": extra(42)} {
				if r := recordAt(t, m, v, ca); r == nil || r.Type != "static" || r.MAC == v.MAC.String() {
					t.Errorf("%s has %s as %+v, want it as configured", m, ca, r)
				}
			}
			learned(t, v, extra(42), "", "h1")
		}
		eventually(t, "what the gateway does not take over", func() error {
			s, err := world.Status(t.Context(), "h2")
			if err != nil {
				return err
			}
			i := slices.IndexFunc(s.Peers, func(p v1.PeerStatus) bool { return p.Name == "gw" })
			if i < 0 || s.Peers[i].Static != len(vms) {
				return fmt.Errorf("it is not told: %+v", s.Peers)
			}
			return nil
		})
	})

	t.Run("ageing", func(t *testing.T) {
		for _, v := range vms {
			for n := byte(40); n < 43; n++ {
				lose(t, v, extra(n))
			}
		}
		for _, v := range vms {
			learned(t, v, extra(40), "", gatewayds...)
			learned(t, v, extra(41), "", gatewayds...)
			learned(t, v, v.CA, pa["h2"], gatewayds...) // it answered when it was asked
		}
	})

	t.Run("move", func(t *testing.T) {
		streams := map[string]*lab.Stream{}
		for _, v := range vms {
			p := v.Name[:1]
			streams[v.Name+" from a host that learns"] = endless(t, v.Name, vm(t, p+"11"), service.Down)
			streams[v.Name+" from a host that is told"] = endless(t, v.Name, vm(t, p+"12"), service.Down)
			streams[v.Name+" from the Internet"] = endless(t, v.Name, lab.VM{}, service.Down)
		}
		flowing(t, streams)
		if err := world.KillGatewayd(t.Context(), "gw"); err != nil {
			t.Fatal(err)
		}
		move := func(v lab.VM, m string) {
			ctl(t, m, "record", "set", "--vsid", v.VSID.String(), "--mac", v.MAC.String(), "--pa", pa["h1"])
		}
		for _, v := range vms {
			if err := world.Move(t.Context(), v.Name, "h1"); err != nil {
				t.Fatal(err)
			}
			move(v, "h1")
			move(v, "h2")
			in(t, v.Name, "busybox", "arping", "-U", "-c", "1", "-I", "eth0", v.CA.String())
			learned(t, v, v.CA, pa["h1"], "h1", "h2")
			tell(t, v)
		}
		if _, err := world.StartGatewayd(t.Context(), "gw"); err != nil {
			t.Fatal(err)
		}
		for _, v := range vms {
			move(v, "gw")
			learned(t, v, v.CA, pa["h1"], "gw")
		}
		flowing(t, streams)
		if err := world.KillGatewayd(t.Context(), "h1"); err != nil {
			t.Fatal(err)
		}
		if _, err := world.StartGatewayd(t.Context(), "h1"); err != nil {
			t.Fatal(err)
		}
		flowing(t, streams)
		for _, v := range vms {
			learned(t, v, v.CA, pa["h1"], gatewayds...)
			learned(t, v, v.CA6, pa["h1"], gatewayds...)
		}
	})
}
