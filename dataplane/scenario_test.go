package dataplane

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// expect checks that exactly one frame with the payload reached the NIC and
// nothing reached any other one of both tenants, and gives the frame.
func expect(t *testing.T, l *lab, to *nic, payload string, tenants ...*site) decoded {
	t.Helper()
	l.settle()
	var got decoded
	for _, s := range tenants {
		for _, n := range s.nics() {
			frames := n.drain()
			switch {
			case n != to && len(frames) != 0:
				t.Errorf("%s: port %s of VSID %d got %d frames", payload, n.mac, n.vsid, len(frames))
			case n == to && len(frames) != 1:
				t.Fatalf("%s: port %s of VSID %d got %d frames, want 1; drops %v %v %v", payload, n.mac, n.vsid, len(frames),
					l.hosts[0].allDrops(), l.hosts[1].allDrops(), l.hosts[2].allDrops())
			case n == to:
				got = decode(t, frames[0].bytes)
				if got.payload != payload {
					t.Errorf("payload is %q, want %q", got.payload, payload)
				}
			}
		}
	}
	return got
}

// TestTwoTenantsOneSetOfAddresses sends the same frames in both tenants: each
// arrives in its own and in no other, in one subnet, across subnets, to the
// compartment and back.
func TestTwoTenantsOneSetOfAddresses(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		gwMAC := hnv.CompartmentMAC(mustVSID(s.base))
		for _, tc := range []struct {
			what     string
			from, to *nic
			frame    []byte
			ttl      uint8
			src, dst hnv.MAC
		}{
			{"same subnet, other host", s.vm11, s.vm12, udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "same subnet, other host"), 64, mac11, mac12},
			{"same subnet, same host", s.vm11, s.vm13, udp(mac11, mac13, "10.1.1.11", "10.1.1.13", "same subnet, same host"), 64, mac11, mac13},
			{"other subnet", s.vm11, s.v21, udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.11", "other subnet"), 63, hnv.RouterMAC, mac21},
			{"other subnet, same host", s.vm12, s.v21, udp(mac12, hnv.RouterMAC, "10.1.1.12", "10.1.2.11", "other subnet, same host"), 63, hnv.RouterMAC, mac21},
			{"hairpin by the router", s.vm11, s.vm12, udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.1.12", "hairpin by the router"), 63, hnv.RouterMAC, mac12},
			{"to the Internet", s.vm11, s.gw, udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "to the Internet"), 63, hnv.RouterMAC, gwMAC},
			{"from the Internet", s.gw, s.vm11, udp(gwMAC, hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "from the Internet"), 63, hnv.RouterMAC, mac11},
			{"from the compartment", s.gw, s.vm12, udp(gwMAC, hnv.RouterMAC, "10.254.254.2", "10.1.1.12", "from the compartment"), 63, hnv.RouterMAC, mac12},
			{"to the compartment", s.vm12, s.gw, udp(mac12, hnv.RouterMAC, "10.1.1.12", "10.254.254.2", "to the compartment"), 63, hnv.RouterMAC, gwMAC},
			{"IPv6 same subnet", s.vm11, s.vm12, udp(mac11, mac12, "fd00:1::11", "fd00:1::12", "IPv6 same subnet"), 64, mac11, mac12},
			{"IPv6 other subnet", s.vm11, s.v21, udp(mac11, hnv.RouterMAC, "fd00:1::11", "fd00:2::11", "IPv6 other subnet"), 63, hnv.RouterMAC, mac21},
			{"IPv6 to the Internet", s.vm11, s.gw, udp(mac11, hnv.RouterMAC, "fd00:1::11", "2001:db8::5", "IPv6 to the Internet"), 63, hnv.RouterMAC, gwMAC},
			{"IPv6 from the Internet", s.gw, s.vm11, udp(gwMAC, hnv.RouterMAC, "2001:db8::5", "fd00:1::11", "IPv6 from the Internet"), 63, hnv.RouterMAC, mac11},
		} {
			tc.from.send(tc.frame)
			got := expect(t, l, tc.to, tc.what, contoso, fabrikam)
			if got.TTL != tc.ttl || got.SrcMAC != tc.src.Bytes() || got.DstMAC != tc.dst.Bytes() {
				t.Errorf("%s of %s: TTL %d, %x -> %x; want %d, %s -> %s", tc.what, s.Name, got.TTL, got.SrcMAC, got.DstMAC, tc.ttl, tc.src, tc.dst)
			}
		}
	}
	for _, h := range l.hosts {
		if d := h.allDrops(); len(d) != 0 {
			t.Errorf("host %s dropped %v", h.pa, d)
		}
	}
}

// A record that moves to another PA counts for the very next packet, on the way
// out and for the source check on the way in.
func TestLiveMigration(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	gate, h2 := l.hosts[0], l.hosts[2]
	gwMAC := hnv.CompartmentMAC(mustVSID(contoso.base))
	down := func() { contoso.gw.send(udp(gwMAC, hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "down")) }

	down()
	expect(t, l, contoso.vm11, "down", contoso, fabrikam)

	moved := record(5001, "10.1.1.11", mac11, paHost2, hnv.RuleNVGRE)
	newHome := h2.plug(5001, mac11, PortVM)
	for _, h := range []*host{gate, h2} {
		if err := h.sw.UpdateRecords(contoso.RDID, []hnv.Record{moved}, nil); err != nil {
			t.Fatal(err)
		}
	}
	down()
	expect(t, l, nil, "", contoso, fabrikam)
	if got := newHome.drain(); len(got) != 1 {
		t.Fatalf("the VM's new port got %d frames, want 1", len(got))
	}
	newHome.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "up"))
	expect(t, l, contoso.gw, "up", contoso, fabrikam)

	// The old host has not heard of it yet: its packets in the VM's name are
	// refused, and the other tenant's VM stays where it is.
	contoso.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "stale"))
	expect(t, l, nil, "", contoso, fabrikam)
	if n := gate.drops("contoso")[drop.SourcePAMismatch]; n != 1 {
		t.Errorf("the gateway dropped %v, want one packet of the old host", gate.drops("contoso"))
	}
	fabrikam.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "other tenant"))
	expect(t, l, fabrikam.gw, "other tenant", contoso, fabrikam)
}

// A tenant that is removed is deaf and dumb at once; its neighbour does not
// notice; its ports work again when it is back.
func TestRemoveAndReturn(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	gate := l.hosts[0]
	send := func(s *site) { s.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "up")) }

	gate.sw.Remove(contoso.RDID)
	send(contoso)
	expect(t, l, nil, "", contoso, fabrikam)
	send(fabrikam)
	expect(t, l, fabrikam.gw, "up", contoso, fabrikam)
	contoso.gw.send(udp(hnv.CompartmentMAC(mustVSID(5000)), hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "down"))
	expect(t, l, nil, "", contoso, fabrikam)

	// Another tenant gets the VSIDs: contoso's port must not become its port.
	thief := contoso.Tenant
	thief.Name, thief.RDID = mustName("thief"), hnv.NewRDID()
	if err := gate.sw.Apply(thief); err != nil {
		t.Fatal(err)
	}
	send(contoso)
	contoso.gw.send(udp(hnv.CompartmentMAC(mustVSID(5000)), hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "down"))
	expect(t, l, nil, "", contoso, fabrikam)
	gate.sw.Remove(thief.RDID)

	if err := gate.sw.Apply(contoso.Tenant); err != nil {
		t.Fatal(err)
	}
	send(contoso)
	expect(t, l, contoso.gw, "up", contoso, fabrikam)
}

// The router picks among equal next hops by the flow, and a receiver takes the
// packet back from any of them.
func TestEqualNextHops(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	c := contoso.Tenant
	for _, hop := range []string{"10.1.1.12", "10.1.1.13"} {
		c.Routes = append(c.Routes, hnv.CustomerRoute{VSID: mustVSID(5001), Prefix: netip.MustParsePrefix("172.16.0.0/12"), NextHop: ip(hop)})
	}
	for _, h := range l.hosts {
		if err := h.sw.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	hits := map[*nic]int{}
	for i := range 64 {
		to := netip.AddrFrom4([4]byte{172, 16, 0, byte(i)}).String()
		contoso.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", to, "out"))
		l.settle()
		for _, n := range contoso.nics() {
			hits[n] += len(n.drain())
		}
	}
	if hits[contoso.vm12]+hits[contoso.vm13] != 64 || hits[contoso.vm12] < 10 || hits[contoso.vm13] < 10 {
		t.Errorf("64 flows: %d by one next hop, %d by the other", hits[contoso.vm12], hits[contoso.vm13])
	}
	for _, n := range []*nic{contoso.vm12, contoso.vm13} {
		n.send(udp(n.mac, hnv.RouterMAC, "172.16.0.9", "10.1.2.11", "back"))
		expect(t, l, contoso.v21, "back", contoso, fabrikam)
	}
	contoso.vm11.send(udp(mac11, hnv.RouterMAC, "172.16.0.9", "10.1.2.11", "not by me"))
	expect(t, l, nil, "", contoso, fabrikam)
	if n := l.hosts[1].drops("contoso")[drop.SourceCASpoofed]; n != 1 {
		t.Errorf("drops are %v", l.hosts[1].drops("contoso"))
	}
}

// A host with several PAs sends from the one that its VM's record names, over
// IPv4 and over IPv6: the receiver checks.
func TestSeveralPAs(t *testing.T) {
	l := newLab(t)
	near := l.addHost("192.168.1.10", "192.168.1.20", "fd99::20")
	far := l.addHost("192.168.2.10", "fd99::2:10")
	for i, encap := range []hnv.Encap{hnv.NVGRE, hnv.VXLAN} {
		base := uint32(5000 + 1000*i)
		rule := hnv.Rule(encap)
		c := Tenant{
			Name: mustName(string(encap)), RDID: hnv.NewRDID(), Encap: encap,
			Subnets: []hnv.Subnet{subnet(base, "10.1.1.0/24", "fd00:1::/64")},
			Records: []hnv.Record{
				record(base, "10.1.1.11", mac11, "192.168.1.20", rule),
				record(base, "fd00:1::11", mac11, "fd99::20", rule),
				record(base, "10.1.1.12", mac12, "192.168.2.10", rule),
				record(base, "fd00:1::12", mac12, "fd99::2:10", rule),
				record(base, "fd00:1::13", mac12, "192.168.2.10", rule),
			},
		}
		s := &site{}
		for _, h := range l.hosts {
			if err := h.sw.Apply(c); err != nil {
				t.Fatal(err)
			}
		}
		s.vm11, s.vm12 = near.plug(base, mac11, PortVM), far.plug(base, mac12, PortVM)
		for _, tc := range [][2]string{{"10.1.1.11", "10.1.1.12"}, {"fd00:1::11", "fd00:1::12"}} {
			s.vm11.send(udp(mac11, mac12, tc[0], tc[1], "there"))
			l.settle()
			s.vm12.send(udp(mac12, mac11, tc[1], tc[0], "back"))
			l.settle()
			if there, back := len(s.vm12.drain()), len(s.vm11.drain()); there != 1 || back != 1 {
				t.Errorf("%s %v: %d there, %d back; drops %v %v", encap, tc, there, back, near.allDrops(), far.allDrops())
			}
		}
		// No PA of ours is of the family that the other end has.
		s.vm11.send(udp(mac11, mac12, "fd00:1::11", "fd00:1::13", "across"))
		l.settle()
		if n := near.drops(string(encap))[drop.NoSourcePA]; n != 1 || len(s.vm12.drain()) != 0 {
			t.Errorf("drops are %v", near.allDrops())
		}
	}
}

// A compartment is at PAs of both address families, though its record here names
// one: what it sends to a host leaves by the one that this host's record has.
func TestCompartmentAtBothFamilies(t *testing.T) {
	l := newLab(t)
	gate, four, six := l.addHost("192.168.1.1", "fd99::1"), l.addHost("192.168.2.10"), l.addHost("fd99::2:10")
	for i, encap := range []hnv.Encap{hnv.NVGRE, hnv.VXLAN} {
		base := uint32(5000 + 1000*i)
		rule, gwMAC := hnv.Rule(encap), hnv.CompartmentMAC(mustVSID(base))
		c := func(gateway string) Tenant {
			return Tenant{
				Name: mustName(string(encap)), RDID: hnv.NewRDID(), Encap: encap,
				Subnets: []hnv.Subnet{subnet(base, "10.254.254.0/29"), subnet(base+1, "10.1.1.0/24")},
				Routes:  []hnv.CustomerRoute{{VSID: mustVSID(base), Prefix: netip.MustParsePrefix("0.0.0.0/0"), NextHop: ip("10.254.254.2")}},
				Records: []hnv.Record{
					record(base, "10.254.254.2", gwMAC, gateway, rule),
					record(base+1, "10.1.1.11", mac11, "192.168.2.10", rule),
					record(base+1, "10.1.1.12", mac12, "fd99::2:10", rule),
				},
			}
		}
		for h, pa := range map[*host]string{gate: "192.168.1.1", four: "192.168.1.1", six: "fd99::1"} {
			if err := h.sw.Apply(c(pa)); err != nil {
				t.Fatal(err)
			}
		}
		gw := gate.plug(base, gwMAC, PortCompartment)
		for _, vm := range []struct {
			n  *nic
			ca string
		}{{four.plug(base+1, mac11, PortVM), "10.1.1.11"}, {six.plug(base+1, mac12, PortVM), "10.1.1.12"}} {
			for _, outside := range []string{"198.51.100.7", "10.254.254.2"} {
				vm.n.send(udp(vm.n.mac, hnv.RouterMAC, vm.ca, outside, "out"))
				l.settle()
				gw.send(udp(gwMAC, hnv.RouterMAC, outside, vm.ca, "in"))
				l.settle()
				if out, in := len(gw.drain()), len(vm.n.drain()); out != 1 || in != 1 {
					t.Errorf("%s: between %s and %s %d out, %d in; drops %v %v %v", encap, vm.ca, outside, out, in, gate.allDrops(), four.allDrops(), six.allDrops())
				}
			}
		}
		for ca, want := range map[string]string{"10.1.1.11": "192.168.1.1", "10.1.1.12": "fd99::1"} {
			n, err := gate.sw.NextHop(NextHopQuery{VSID: mustVSID(base), SrcCA: ip("10.254.254.2"), DstCA: ip(ca)})
			if err != nil || !slices.Equal(n.SrcPAs, []netip.Addr{ip(want)}) {
				t.Errorf("%s: the next hop to %s is reached from %v, want %s (%v)", encap, ca, n.SrcPAs, want, err)
			}
		}
	}
}

// A virtual subnet that is taken from a tenant leaves its ports dead.
func TestSubnetTakenAway(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	c := contoso.Tenant
	c.Subnets = c.Subnets[:2]
	c.Records = c.Records[:7]
	if err := l.hosts[2].sw.Apply(c); err != nil {
		t.Fatal(err)
	}
	contoso.v21.send(udp(mac21, hnv.RouterMAC, "10.1.2.11", "10.1.1.12", "x"))
	contoso.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.11", "x"))
	expect(t, l, nil, "", contoso, fabrikam)
	if d := l.hosts[2].allDrops(); d[drop.PortDown] != 1 || d[drop.VSIDUnknown] != 1 {
		t.Errorf("drops are %v", d)
	}
	for _, p := range l.hosts[2].sw.Snapshot().Ports {
		if p.Up != (p.Spec.VSID != mustVSID(5002)) {
			t.Errorf("port %+v", p)
		}
	}
	contoso.vm11.send(udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "others go on"))
	expect(t, l, contoso.vm12, "others go on", contoso, fabrikam)
}

// A virtual subnet that another tenant is given takes no port of its old owner
// along, though VSID and MAC are those of a VM of the new one.
func TestSubnetMovesToAnotherTenant(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h := l.hosts[1].sw
	from, to := contoso.Tenant, fabrikam.Tenant
	subnets := from.Subnets
	from.Subnets = []hnv.Subnet{subnets[0], subnets[2]}
	from.Records = slices.DeleteFunc(slices.Clone(from.Records), func(r hnv.Record) bool { return r.VSID == subnets[1].VSID })
	moved := subnet(5001, "10.9.1.0/24")
	to.Subnets = append(slices.Clone(to.Subnets), moved)
	to.Records = append(slices.Clone(to.Records),
		record(5001, "10.9.1.13", mac13, paHost1, hnv.RuleVXLAN), record(5001, "10.9.1.12", mac12, paHost2, hnv.RuleVXLAN))
	for _, state := range []Tenant{from, to} {
		if err := h.Apply(state); err != nil {
			t.Fatal(err)
		}
	}
	local := udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.9.1.13", "for the new owner")
	fabrikam.vm11.send(local)
	l.hosts[1].inject(outerPacket(hnv.VXLAN, paHost2, paHost1, 5001, udp(mac12, mac13, "10.9.1.12", "10.9.1.13", "for the new owner")))
	contoso.vm13.send(udp(mac13, mac12, "10.9.1.13", "10.9.1.12", "from the old owner"))
	expect(t, l, nil, "", contoso, fabrikam)
	if d := l.hosts[1].allDrops(); d[drop.NoPort] != 1 || d[drop.NotLocal] != 1 || d[drop.PortDown] != 1 {
		t.Errorf("drops are %v", d)
	}
	h.RemovePort(contoso.vm13.id)
	newOwner := l.hosts[1].plug(5001, mac13, PortVM)
	fabrikam.vm11.send(local)
	expect(t, l, nil, "", contoso, fabrikam)
	if got := newOwner.drain(); len(got) != 1 {
		t.Errorf("the new owner's VM gets %d frames", len(got))
	}
}

// UseVMMAC keeps the VM's MAC as the source of its routed packets, and receivers
// take that.
func TestUseVMMAC(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	r := record(5001, "10.1.1.11", mac11, paHost1, hnv.RuleNVGRE)
	r.UseVMMAC = true
	for _, h := range l.hosts {
		if err := h.sw.UpdateRecords(contoso.RDID, []hnv.Record{r}, nil); err != nil {
			t.Fatal(err)
		}
	}
	contoso.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.11", "x"))
	if got := expect(t, l, contoso.v21, "x", contoso, fabrikam); got.SrcMAC != mac11.Bytes() {
		t.Errorf("the source MAC is %x", got.SrcMAC)
	}
}
