package dataplane

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// The PAs that stand for VMs of contoso; fabrikam's are 10 higher.
const (
	pa11 = "192.168.1.111" // 10.1.1.11 on host 1
	pa12 = "192.168.2.112" // 10.1.1.12 on host 2
	pa21 = "192.168.2.121" // 10.1.2.11 on host 2
)

// rewriteLab is the example lab in which three VMs of each tenant have a PA each,
// and the others have not.
func rewriteLab(t *testing.T) (l *lab, contoso, fabrikam *site) {
	l, contoso, fabrikam = exampleLab(t)
	l.rewritten = map[netip.Addr]*host{}
	provide := map[*host][]netip.Addr{}
	for i, s := range []*site{contoso, fabrikam} {
		var put []hnv.Record
		for _, r := range []hnv.Record{
			record(s.base+1, "10.1.1.11", mac11, pa11, hnv.RuleRewrite),
			record(s.base+1, "10.1.1.12", mac12, pa12, hnv.RuleRewrite),
			record(s.base+2, "10.1.2.11", mac21, pa21, hnv.RuleRewrite),
		} {
			b := r.PA.As4()
			b[3] += byte(10 * i)
			r.PA = netip.AddrFrom4(b)
			put = append(put, r)
			h := l.hosts[b[2]]
			l.rewritten[r.PA], l.byPA[r.PA] = h, h
			provide[h] = append(provide[h], r.PA)
		}
		l.apply(s, func(t *Tenant) {
			for _, r := range put {
				for j := range t.Records {
					if t.Records[j].CA == r.CA && t.Records[j].VSID == r.VSID {
						t.Records[j] = r
					}
				}
			}
		})
	}
	for h, pas := range provide {
		h.sw.SetProvider(Provider{Addrs: append([]netip.Addr{h.pa}, pas...), MTU: 1500})
	}
	return l, contoso, fabrikam
}

// Between addresses that stand for CAs packets travel as they are, rewritten both
// ways, in the same subnet and across; from and to others they are encapsulated.
func TestRewrite(t *testing.T) {
	l, contoso, fabrikam := rewriteLab(t)
	for i, s := range []*site{contoso, fabrikam} {
		gwMAC := hnv.CompartmentMAC(mustVSID(s.base))
		at := func(pa string) netip.Addr {
			b := ip(pa).As4()
			b[3] += byte(10 * i)
			return netip.AddrFrom4(b)
		}
		for _, tc := range []struct {
			what     string
			from, to *nic
			frame    []byte
			src, dst string // on the fabric; empty: encapsulated
			ttl      uint8
			mac      hnv.MAC
		}{
			{"same subnet", s.vm11, s.vm12, udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "same subnet"), pa11, pa12, 64, mac11},
			{"back", s.vm12, s.vm11, udp(mac12, mac11, "10.1.1.12", "10.1.1.11", "back"), pa12, pa11, 64, mac12},
			{"other subnet", s.vm11, s.v21, udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.11", "other subnet"), pa11, pa21, 63, hnv.RouterMAC},
			{"TCP", s.vm11, s.vm12, ipFrame(mac11, mac12, "10.1.1.11", "10.1.1.12", 64, &layers.TCP{SrcPort: 1, DstPort: 9999, SYN: true}, "TCP"), pa11, pa12, 64, mac11},
			{"to one that has none", s.vm12, s.vm13, udp(mac12, mac13, "10.1.1.12", "10.1.1.13", "to one that has none"), "", "", 64, mac12},
			{"from one that has none", s.vm13, s.vm12, udp(mac13, mac12, "10.1.1.13", "10.1.1.12", "from one that has none"), "", "", 64, mac13},
			{"to the Internet", s.vm11, s.gw, udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "to the Internet"), "", "", 63, hnv.RouterMAC},
			{"from the Internet", s.gw, s.vm11, udp(gwMAC, hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "from the Internet"), "", "", 63, hnv.RouterMAC},
			{"IPv6 as ever", s.vm11, s.vm12, udp(mac11, mac12, "fd00:1::11", "fd00:1::12", "IPv6 as ever"), "", "", 64, mac11},
		} {
			for range 2 { // decided, and replayed
				l.tap = nil
				tc.from.send(tc.frame)
				got := expect(t, l, tc.to, tc.what, contoso, fabrikam)
				if got.TTL != tc.ttl || got.SrcMAC != tc.mac.Bytes() || got.Src != got.Src.Unmap() {
					t.Errorf("%s of %s: TTL %d from %x, want %d from %s", tc.what, s.Name, got.TTL, got.SrcMAC, tc.ttl, tc.mac)
				}
				var outer packet.Headers
				if len(l.tap) != 1 || outer.DecodeIP(l.tap[0].bytes) != drop.None {
					t.Fatalf("%s of %s: %d packets on the fabric, want 1", tc.what, s.Name, len(l.tap))
				}
				if tc.src == "" {
					if outer.Proto != packet.ProtoGRE && outer.DstPort != 4789 {
						t.Errorf("%s of %s: not encapsulated", tc.what, s.Name)
					}
				} else if outer.Src != at(tc.src) || outer.Dst != at(tc.dst) || outer.Length != len(l.tap[0].bytes) {
					t.Errorf("%s of %s: %s > %s of %d bytes on the fabric, want %s > %s of %d", tc.what, s.Name, outer.Src, outer.Dst, outer.Length, at(tc.src), at(tc.dst), len(l.tap[0].bytes))
				}
			}
		}
	}
	for _, h := range l.hosts {
		if d := h.allDrops(); len(d) != 0 {
			t.Errorf("host %s dropped %v", h.pa, d)
		}
	}
}

// Whatever comes to an address that stands for a VM from one that is no partner
// of its own is dropped and counted.
func TestRewriteIsolation(t *testing.T) {
	l, contoso, fabrikam := rewriteLab(t)
	h1 := l.hosts[1]
	plain := func(src, dst string) []byte { return udp(mac12, mac11, src, dst, "x")[14:] }
	for _, tc := range []struct {
		what   string
		packet []byte
		reason drop.Reason
	}{
		{"from the other tenant's", plain("192.168.2.122", pa11), drop.UDPPort},
		{"from an ordinary PA", plain(paHost2, pa11), drop.UDPPort},
		{"from our own", plain("192.168.1.121", "192.168.1.121"), drop.OuterSourceOurs},
		{"for another host's", plain(pa11, pa12), drop.OuterNotOurs},
		{"ICMP from anywhere", ipFrame(mac12, mac11, paHost2, pa11, 64, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}, "x")[14:], drop.RewriteUnknown},
		{"an error about no flow", ipFrame(mac12, mac11, "192.168.9.9", pa11, 64, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4)}, string(plain(pa11, pa12)))[14:], drop.RewriteUnknown},
	} {
		before := h1.allDrops()[tc.reason]
		h1.inject(tc.packet)
		expect(t, l, nil, "", contoso, fabrikam)
		if n := h1.allDrops()[tc.reason] - before; n != 1 {
			t.Errorf("%s: %v, want %s once more", tc.what, h1.allDrops(), tc.reason)
		}
	}
	// A VM that makes its packet look like a tunnel's does not speak for anybody:
	// it arrives as what it is.
	fake := ipFrame(mac11, mac12, "10.1.1.11", "10.1.1.12", 64, &layers.UDP{SrcPort: 50000, DstPort: 4789}, "")
	contoso.vm11.send(fake)
	l.settle()
	if got := contoso.vm12.drain(); len(got) != 1 {
		t.Errorf("the VM's own UDP packet to 4789 arrived %d times, want once", len(got))
	}
}

// The fabric's word that a rewritten packet was too big reaches the VM.
func TestRewriteTooBig(t *testing.T) {
	l, contoso, fabrikam := rewriteLab(t)
	contoso.vm11.send(udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x"))
	expect(t, l, contoso.vm12, "x", contoso, fabrikam)
	quoted := string(udp(mac11, mac12, pa11, pa12, "x")[14:])
	l.hosts[1].inject(ipFrame(mac12, mac11, "192.168.9.9", pa11, 64, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: 1400}, quoted)[14:])
	got := contoso.vm11.drain()
	if len(got) != 1 {
		t.Fatalf("the VM got %d frames, want the error", len(got))
	}
	var h, q packet.Headers
	if r := h.DecodeEthernet(got[0].bytes); r != drop.None || h.Src != ip("10.1.1.12") || h.Dst != ip("10.1.1.11") {
		t.Fatalf("the error is %s from %s to %s", r, h.Src, h.Dst)
	}
	if !quote(&q, got[0].bytes[h.L3:h.L3+h.Length], &h) || q.Src != ip("10.1.1.11") || q.Dst != ip("10.1.1.12") || q.DstPort != 2000 {
		t.Errorf("the error quotes %s > %s port %d", q.Src, q.Dst, q.DstPort)
	}
	if packet.Checksum(got[0].bytes[h.L4:h.L3+h.Length], 0) != 0 {
		t.Error("the error's checksum is wrong")
	}
}

// Two tenants cannot have one PA stand for their CAs.
func TestRewriteConflict(t *testing.T) {
	l, contoso, fabrikam := rewriteLab(t)
	sw := l.hosts[1].sw
	stolen := record(6001, "10.1.1.40", mac13, pa11, hnv.RuleRewrite)
	if err := sw.UpdateRecords(fabrikam.RDID, []hnv.Record{stolen}, nil); err == nil {
		t.Error("a PA that stands for contoso's VM was given to fabrikam's")
	}
	// Once it is free, it can be had.
	if err := sw.UpdateRecords(contoso.RDID, nil, []hnv.RecordKey{{VSID: mustVSID(5001), CA: ip("10.1.1.11")}}); err != nil {
		t.Fatal(err)
	}
	if err := sw.UpdateRecords(fabrikam.RDID, []hnv.Record{stolen}, nil); err != nil {
		t.Error(err)
	}
	sw.Remove(fabrikam.RDID)
	if n := sw.rewritten.Load().Len(); n != 2 {
		t.Errorf("%d PAs stand for CAs, want contoso's other two", n)
	}
}
