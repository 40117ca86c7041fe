package dataplane

import (
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// A station behind a list that lets nobody in gets its address all the same from
// the subnet's DHCP server, which alone hears its question; nobody else's answer
// passes.
func TestDHCPUnderLists(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		l.apply(s, func(t *Tenant) {
			t.ACLs = []hnv.ACL{outOnly()}
			t.Subnets[1].ACL = mustName("out-only")
			t.Subnets[1].DHCP = ip("10.1.1.12")
		})
		s.vm11.send(ipFrame(mac11, macBroadcast, "0.0.0.0", "255.255.255.255", 64, &layers.UDP{SrcPort: 68, DstPort: 67}, "discover"))
		l.settle()
		for _, n := range s.nics() {
			want := 0
			if n == s.vm12 {
				want = 1
			}
			if got := len(n.drain()); got != want {
				t.Errorf("%s: %s heard the question %d times, want %d", s.Name, n.mac, got, want)
			}
		}
		offer := func(from *nic, mac hnv.MAC, src string) int {
			from.send(ipFrame(mac, macBroadcast, src, "255.255.255.255", 64, &layers.UDP{SrcPort: 67, DstPort: 68}, "offer"))
			from.send(ipFrame(mac, mac11, src, "10.1.1.11", 64, &layers.UDP{SrcPort: 67, DstPort: 68}, "offer"))
			l.settle()
			return len(s.vm11.drain())
		}
		if n := offer(s.vm12, mac12, "10.1.1.12"); n != 2 {
			t.Errorf("%s: the client got %d answers of the server, want 2", s.Name, n)
		}
		if n := offer(s.vm13, mac13, "10.1.1.13"); n != 0 {
			t.Errorf("%s: the client got %d answers of a rogue", s.Name, n)
		}
		if n := l.hosts[1].drops(s.Name.String())[drop.DHCPRogue]; n != 2 {
			t.Errorf("%s: drops are %v, want 2 dhcp-rogue", s.Name, l.hosts[1].drops(s.Name.String()))
		}
	}
}
