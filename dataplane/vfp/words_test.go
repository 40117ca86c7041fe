package vfp

import (
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
)

func TestWordsForPeople(t *testing.T) {
	tcp := uint8(6)
	mac := [6]byte{0, 0x15, 0x5d, 0, 0, 1}
	for _, c := range []struct{ got, want string }{
		{Match{}.String(), "any packet"},
		{Match{Proto: &tcp, Src: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, DstPorts: []PortRange{{80, 80}, {8000, 8999}}}.String(),
			"protocol 6, source 10.0.0.0/8, destination port 80 or 8000-8999"},
		{Match{DstMAC: &mac}.String(), "destination MAC 00:15:5d:00:00:01"},
		{Action{Kind: Allow}.String(), "allow"},
		{Action{Kind: Block, Reason: drop.ACLDenied}.String(), "block: acl-denied"},
		{Action{Kind: Meter, Bucket: NewBucket(20_000_000, 0)}.String(), "meter: 20 Mbit/s"},
		{Action{Kind: Meter, Bucket: NewBucket(1_000_001, 0)}.String(), "meter: 1000001 bit/s"},
		{Action{Kind: Route, Space: "ca-pa"}.String(), "route: ca-pa"},
		{Action{Kind: Encap, Tunnel: Tunnel{VXLAN, netip.MustParseAddr("192.0.2.1"), 5001}}.String(), "encap: vxlan to 192.0.2.1, VSID 5001"},
		{Action{Kind: Punt, Queue: PuntDHCP}.String(), "punt: queue 2"},
		{Action{Kind: Rewrite, Pool: new(NATPool), Transposition: Transposition{Set: SetDSCP, NewDSCP: 46}}.String(), "rewrite: DSCP 46, source from a NAT pool"},
		{Transposition{}.String(), "nothing"},
		{Transposition{Set: SetDst | SetDstPort, NewDst: netip.MustParseAddr("10.1.1.12"), NewDstPort: 80, DecTTL: true}.String(),
			"destination 10.1.1.12, destination port 80, TTL one less"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// Has says what Take is about to do, at any time and fill.
func TestBucketHasWhatItTakes(t *testing.T) {
	b := NewBucket(8_000_000, 100_000)
	now := int64(1e18)
	for i := range 2000 {
		bytes := 100 + i*37%1400
		for range 2 { // asking changes nothing
			if has := b.Has(now, bytes); has != b.Has(now, bytes) {
				t.Fatal("asking took something")
			}
		}
		if has := b.Has(now, bytes); has != b.Take(now, bytes) {
			t.Fatalf("packet %d of %d bytes: Has says %t", i, bytes, has)
		}
		now += int64(i * 100)
	}
	if b.Has(now, 200_000) {
		t.Error("it has room for more than its burst")
	}
	if !(*Bucket)(nil).Has(now, 1<<30) {
		t.Error("no bucket has no room")
	}
}
