package dataplane

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// Rates of ports and of tenants, each in both directions, between ports of one
// host and over the fabric: in the long run what passes is the rate, whatever is
// offered, what does not is counted, and the neighbour is not concerned.
func TestMeters(t *testing.T) {
	const (
		kbps   = 8000 // a megabyte a second
		frame  = 1042 // bytes of each frame
		ticks  = 80   // of 10 ms
		offer  = 20   // frames a tick: two megabytes a second
		burst  = vfp.MinBurst
		inTime = kbps * 1000 / 8 * ticks / 100 // bytes
	)
	payload := strings.Repeat("x", frame-42)
	for _, tc := range []struct {
		what  string
		port  [2]uint64 // in and out rate of vm11's port
		qos   hnv.QoS
		from  func(s *site) *nic
		to    func(s *site) *nic
		limit bool
	}{
		{what: "port out, over the fabric", port: [2]uint64{0, kbps}, from: vm11, to: vm12, limit: true},
		{what: "port out, on the host", port: [2]uint64{0, kbps}, from: vm11, to: vm13, limit: true},
		{what: "port out, routed", port: [2]uint64{0, kbps}, from: vm11, to: v21, limit: true},
		{what: "port out does not limit in", port: [2]uint64{0, kbps}, from: vm12, to: vm11},
		{what: "port in, over the fabric", port: [2]uint64{kbps, 0}, from: vm12, to: vm11, limit: true},
		{what: "port in, on the host", port: [2]uint64{kbps, 0}, from: vm13, to: vm11, limit: true},
		{what: "port in does not limit out", port: [2]uint64{kbps, 0}, from: vm11, to: vm12},
		{what: "another port's", port: [2]uint64{kbps, kbps}, from: vm13, to: vm12},
		{what: "tenant out", qos: hnv.QoS{OutKbps: kbps}, from: vm11, to: vm12, limit: true},
		{what: "tenant out, of another port", qos: hnv.QoS{OutKbps: kbps}, from: vm13, to: vm12, limit: true},
		{what: "tenant in", qos: hnv.QoS{InKbps: kbps}, from: vm12, to: vm11, limit: true},
		{what: "tenant in, on the host", qos: hnv.QoS{InKbps: kbps}, from: vm13, to: vm11, limit: true},
		{what: "both, the port's is less", port: [2]uint64{0, kbps}, qos: hnv.QoS{OutKbps: 4 * kbps}, from: vm11, to: vm12, limit: true},
		{what: "both, the tenant's is less", port: [2]uint64{0, 4 * kbps}, qos: hnv.QoS{OutKbps: kbps}, from: vm11, to: vm12, limit: true},
	} {
		for i := range 2 {
			l, contoso, fabrikam := exampleLab(t)
			s, other := contoso, fabrikam
			if i == 1 {
				s, other = fabrikam, contoso
			}
			if err := s.vm11.host.sw.SetPort(s.vm11.id, hnv.Name{}, tc.port[0], tc.port[1]); err != nil {
				t.Fatal(err)
			}
			qos := tc.qos
			l.apply(s, func(t *Tenant) { t.QoS = &qos })
			got := map[*site]int{}
			for range ticks {
				l.now = l.now.Add(10 * time.Millisecond)
				for _, one := range []*site{s, other} {
					from, to := tc.from(one), tc.to(one)
					b := one.packet(from, to, false, udpPorts(1, 2), payload)
					for range offer {
						from.send(b)
					}
					l.settle()
					got[one] += frame * len(to.drain())
				}
			}
			offered := frame * offer * ticks
			if got[other] != offered {
				t.Errorf("%s: %s's neighbour got %d bytes of %d", tc.what, s.Name, got[other], offered)
			}
			dropped := uint64(0)
			for _, h := range l.hosts {
				d := h.drops(s.Name.String())
				dropped += d[drop.RateExceeded]
				if len(d) > 1 || len(h.drops(other.Name.String())) != 0 {
					t.Errorf("%s: host %s dropped %v", tc.what, h.pa, h.allDrops())
				}
			}
			if got[s]+frame*int(dropped) != offered {
				t.Errorf("%s of %s: %d bytes and %d drops of %d bytes", tc.what, s.Name, got[s], dropped, offered)
			}
			low, high := inTime-frame, inTime+burst+frame
			if !tc.limit {
				low, high = offered, offered
			}
			if got[s] < low || got[s] > high {
				t.Errorf("%s of %s: %d bytes passed, want %d to %d", tc.what, s.Name, got[s], low, high)
			}
		}
	}
}

// Two ports share their tenant's rate, and one that is limited itself does not
// use up what it may not send.
func TestTenantsRateIsShared(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	l.apply(contoso, func(t *Tenant) { t.QoS = &hnv.QoS{OutKbps: 8000} })
	if err := l.hosts[1].sw.SetPort(contoso.vm11.id, hnv.Name{}, 0, 800); err != nil {
		t.Fatal(err)
	}
	payload := strings.Repeat("x", 1000)
	got := map[*nic]int{}
	for range 200 {
		l.now = l.now.Add(10 * time.Millisecond)
		for range 20 {
			contoso.vm11.send(contoso.packet(contoso.vm11, contoso.vm12, false, udpPorts(1, 2), payload))
			contoso.vm13.send(contoso.packet(contoso.vm13, contoso.v21, false, udpPorts(1, 2), payload))
		}
		l.settle()
		got[contoso.vm11] += 1042 * len(contoso.vm12.drain())
		got[contoso.vm13] += 1042 * len(contoso.v21.drain())
	}
	if n := got[contoso.vm11] + got[contoso.vm13]; n < 1_990_000 || n > 2_100_000 {
		t.Errorf("%v: together %d bytes in two seconds at a megabyte a second", got, n)
	}
	if n := got[contoso.vm11]; n < 199_000 || n > 280_000 {
		t.Errorf("the limited port sent %d bytes in two seconds at 100 kB a second", n)
	}
	expect(t, l, nil, "", contoso, fabrikam)
}

// Super-packets count with all their bytes, and with the headers that they will have
// when they are cut; what is denied costs nothing.
func TestMetersCountBytes(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	l.setScope(contoso, scope{port: rules(aclRule(allowOut("tcp")))})
	if err := l.hosts[1].sw.SetPort(contoso.vm11.id, mustName("of-port"), 0, 8000); err != nil {
		t.Fatal(err)
	}
	for range 1000 { // denied: they take nothing out of the bucket
		contoso.vm11.send(contoso.packet(contoso.vm11, contoso.vm13, false, udpPorts(1, 2), strings.Repeat("x", 1000)))
	}
	passed := 0
	for range 100 {
		contoso.vm11.sendOffloaded(superPacket(mac11, mac13, "10.1.1.11", "10.1.1.13", 10000))
		passed += len(contoso.vm13.drain())
	}
	const wire = 10054 + 7*54
	if passed != vfp.MinBurst/wire {
		t.Errorf("%d super-packets of %d bytes passed at once, want as many as a burst has", passed, wire)
	}
	if d := fmt.Sprint(l.hosts[1].drops("contoso")[drop.ACLDenied], l.hosts[1].drops("contoso")[drop.RateExceeded]); d != fmt.Sprint(1000, 100-passed) {
		t.Errorf("drops are %v", l.hosts[1].drops("contoso"))
	}
	// Of packets with little but headers, one passes a full bucket all the same.
	l.now = l.now.Add(time.Minute)
	tiny := superPacket(mac11, mac13, "10.1.1.11", "10.1.1.13", 60000)
	tiny.offload.GSOSize = 1
	for range 2 {
		contoso.vm11.sendOffloaded(tiny)
	}
	if n := len(contoso.vm13.drain()); n != 1 {
		t.Errorf("%d great packets of tiny ones passed, want one", n)
	}
	expect(t, l, nil, "", contoso, fabrikam)
}

func vm12(s *site) *nic { return s.vm12 }
func vm13(s *site) *nic { return s.vm13 }
func v21(s *site) *nic  { return s.v21 }
