//go:build privileged && linux

package scenario

import (
	"slices"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"

	"github.com/hnvgate/hnvgate/hnv"
)

// dropped sums a reason over all tenants and over what belongs to none.
func dropped(s v1.GatewayStatus, reason string) uint64 {
	var n uint64
	add := func(drops []v1.Drop) {
		for _, d := range drops {
			if d.Reason == reason {
				n += d.Packets
			}
		}
	}
	add(s.Unattributed)
	for _, t := range s.Tenants {
		add(t.Counters.Drops)
	}
	return n
}

// countsDrop wants gatewayd on the machine to count a drop for the reason
// after send.
func countsDrop(t *testing.T, machine, reason string, send func()) {
	t.Helper()
	before, err := world.Status(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	send()
	deadline := time.Now().Add(patience / 4)
	for {
		after, err := world.Status(t.Context(), machine)
		if err != nil {
			t.Fatal(err)
		}
		if dropped(after, reason) > dropped(before, reason) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("no drop counted for %q; others: %v", reason, difference(before, after))
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// difference tells which drops were counted in between.
func difference(before, after v1.GatewayStatus) map[string]uint64 {
	out := map[string]uint64{}
	add := func(drops []v1.Drop) {
		for _, d := range drops {
			if n := dropped(after, d.Reason) - dropped(before, d.Reason); n > 0 {
				out[d.Reason] = n
			}
		}
	}
	add(after.Unattributed)
	for _, t := range after.Tenants {
		add(t.Counters.Drops)
	}
	return out
}

// TestVMCannotSpoof sends, from inside a VM of each tenant on a host that runs
// gatewayd, what a VM must not send. The host drops and counts it, and the VM
// it was for does not see it.
func TestVMCannotSpoof(t *testing.T) {
	for _, c := range []struct{ from, victim, other string }{{"c11", "c12", "c13"}, {"f11", "f12", "f13"}} {
		from, victim, other := vm(t, c.from), vm(t, c.victim), vm(t, c.other)
		honest := datagram{srcMAC: from.MAC, dstMAC: victim.MAC, src: from.CA.String(), dst: victim.CA.String(), ttl: 64, marker: "HONEST-" + c.from}
		forged := func(change func(*datagram)) []byte {
			d := honest
			d.marker = "FORGED-" + c.from
			change(&d)
			return d.bytes(t)
		}
		tagged := forged(func(*datagram) {})
		tagged = append(append(append([]byte{}, tagged[:12]...), 0x81, 0x00, 0x00, 0x05), tagged[12:]...)
		group := forged(func(*datagram) {})
		group[6] |= 1
		cases := []struct {
			name, reason string
			frame        []byte
		}{
			{"another VM's MAC address", "source-mac-mismatch", forged(func(d *datagram) { d.srcMAC = other.MAC })},
			{"the router's MAC address", "source-mac-mismatch", forged(func(d *datagram) { d.srcMAC = hnv.RouterMAC })},
			{"a group MAC address", "inner-source-mac", group},
			{"another VM's address", "source-ca-spoofed", forged(func(d *datagram) { d.src = other.CA.String() })},
			{"an address without a record", "source-ca-unknown", forged(func(d *datagram) { d.src = "10.1.1.77" })},
			{"loopback", "source-martian", forged(func(d *datagram) { d.src = "127.0.0.1" })},
			{"a VLAN tag", "inner-vlan", tagged},
			{"ARP for another VM's address", "arp-spoofed", arp(t, 1, from.MAC, other.CA.String(), victim.CA.String())},
			{"ARP answer for the router's address", "arp-spoofed", arp(t, 2, from.MAC, "10.1.1.1", victim.CA.String())},
			{"the last hop, to another subnet", "ttl-expired", forged(func(d *datagram) { d.dstMAC, d.dst, d.ttl = hnv.RouterMAC, "10.1.2.21", 1 })},
			{"no hop left, to another subnet", "ttl-expired", forged(func(d *datagram) { d.dstMAC, d.dst, d.ttl = hnv.RouterMAC, "10.1.2.21", 0 })},
		}
		file := capturing(t, c.victim, "eth0", "", func() {
			for _, x := range cases {
				t.Run(c.from+" sends "+x.name, func(t *testing.T) {
					countsDrop(t, "h1", x.reason, func() { inject(t, c.from, "eth0", x.frame) })
				})
			}
			inject(t, c.from, "eth0", honest.bytes(t))
			if err := world.Ping(t.Context(), c.from, victim.CA, patience); err != nil {
				t.Error(err)
			}
		})
		if rows := dissect(t, file, `frame contains "FORGED"`, "eth.src", "ip.src"); len(rows) > 0 {
			t.Errorf("%s sees %d forged frames, the first from %v", c.victim, len(rows), rows[0])
		}
		// The victim answers that nobody listens, and quotes what it got: ICMP
		// is not another delivery.
		if rows := dissect(t, file, `frame contains "HONEST-`+c.from+`" && !icmp`, "eth.src", "ip.src"); len(rows) != 1 ||
			!slices.Equal(rows[0], []string{from.MAC.String(), from.CA.String()}) {
			t.Errorf("%s sees the honest frame as %v, want it once from %s, %s", c.victim, rows, from.MAC, from.CA)
		}
		if rows := dissect(t, file, "arp.opcode==2 && arp.src.proto_ipv4==10.1.1.1 && !(arp.src.hw_mac==02:68:6e:00:00:01)", "arp.src.hw_mac"); len(rows) > 0 {
			t.Errorf("%s sees %v as its router", c.victim, rows[0])
		}
	}
}
