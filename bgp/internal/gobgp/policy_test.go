package gobgp

import (
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	lib "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/hnvgate/hnvgate/bgp"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ptr[T any](v T) *T            { return &v }

// bench is a speaker with a neighbour that exists in its table only and sent some
// paths, and one that it really has a session with, over the loopback device.
type bench struct {
	spec     bgp.Spec
	src, dst netip.Addr
	s, other *Server
}

const own, srcAS, dstAS = 65000, 65001, 65003

// One for the process: gobgp has globals.
var shared = sync.OnceValues(newBench)

func newBench() (*bench, error) {
	var up sync.WaitGroup
	up.Add(1)
	var once sync.Once
	quiet := Handlers{Paths: func([]BestPath) {}, Peer: func(PeerEvent) {}, EndOfRIB: func(netip.Addr, bgp.Family) {}}
	loud := quiet
	loud.Peer = func(e PeerEvent) {
		if e.Established {
			once.Do(up.Done)
		}
	}
	b := &bench{src: addr("127.0.0.9"), dst: addr("127.0.0.2")}
	ports, err := freePorts(b.dst, addr("127.0.0.1"))
	if err != nil {
		return nil, err
	}
	timers := bgp.Peer{ConnectRetry: time.Second}
	away, back := timers, timers
	away.Name, away.Address, away.Local, away.ASN, away.Port = "dst", b.dst, addr("127.0.0.1"), dstAS, ports[0]
	back.Name, back.Address, back.Passive, back.ASN = "back", addr("127.0.0.1"), true, own
	log := slog.New(slog.DiscardHandler)
	if b.other, err = Start(&bgp.Spec{ASN: dstAS, RouterID: b.dst, Port: ports[0], Listen: []netip.Addr{b.dst}}, log, quiet); err != nil {
		return nil, err
	}
	b.spec = bgp.Spec{ASN: own, RouterID: addr("127.0.0.1"), Port: ports[1], Listen: []netip.Addr{addr("127.0.0.1")},
		Peers: []bgp.Peer{away, {Name: "src", Address: b.src, ASN: srcAS, Disabled: true}}}
	if b.s, err = Start(&b.spec, log, loud); err != nil {
		return nil, err
	}
	for s, p := range map[*Server]bgp.Peer{b.other: back, b.s: away} {
		if err := s.AddPeer(nil, p, false); err != nil { //nolint:staticcheck // the library does not look at it
			return nil, err
		}
	}
	up.Wait()
	return b, nil
}

func freePorts(at ...netip.Addr) (out []uint16, err error) {
	for _, a := range at {
		l, err := net.Listen("tcp", netip.AddrPortFrom(a, 0).String())
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, netip.MustParseAddrPort(l.Addr().String()).Port())
	}
	return out, nil
}

// sample are the paths that the neighbour src sent, and two of our own.
func sample() []path {
	mk := func(p, hop string, med *uint32, numbers []uint32, c []bgp.Community, l ...bgp.LargeCommunity) path {
		return path{numbers: numbers, Path: bgp.Path{Prefix: prefix(p), NextHop: addr(hop), MED: med, Communities: c, LargeCommunities: l}}
	}
	large := bgp.LargeCommunity{Global: 65001, Local1: 1, Local2: 2}
	paths := []path{
		mk("10.0.0.0/8", "192.0.2.1", nil, []uint32{65001}, nil),
		mk("10.1.0.0/16", "192.0.2.1", ptr(uint32(7)), []uint32{65001, 65002}, []bgp.Community{65001<<16 | 100}),
		mk("10.1.1.0/24", "192.0.2.2", nil, []uint32{65001, 4200000001, 65002}, []bgp.Community{65001<<16 | 100, 65001<<16 | 200}, large),
		mk("10.1.1.128/25", "198.51.100.1", ptr(uint32(0)), []uint32{65002, 65001}, []bgp.Community{bgp.Blackhole}),
		mk("10.2.0.0/16", "192.0.2.1", nil, []uint32{65001}, []bgp.Community{bgp.NoAdvertise}),
		mk("10.3.0.0/16", "192.0.2.1", nil, []uint32{65001, 65002}, []bgp.Community{65001<<16 | 100, bgp.NoExportSubconfed}),
		mk("10.1.1.1/32", "198.51.100.1", nil, []uint32{65001, 65001, 65001}, nil, large, bgp.LargeCommunity{Global: 1}),
		mk("0.0.0.0/0", "192.0.2.1", nil, []uint32{6500}, nil),
		mk("fd00::/8", "2001:db8::1", nil, []uint32{65001}, []bgp.Community{65001<<16 | 200}),
		mk("fd00:1::/48", "2001:db8::2", ptr(uint32(9)), []uint32{65001, 65004}, nil),
	}
	home := mk("172.16.0.0/16", "0.0.0.0", nil, nil, []bgp.Community{65000<<16 | 1})
	home.local = true
	return append(paths, home)
}

// send puts the sample into the speaker's table, past its import policy.
func (b *bench) send(t *testing.T, paths []path) {
	t.Helper()
	var sent []*apiutil.Path
	for _, p := range paths {
		o := Origination{Prefix: p.Prefix, Attributes: bgp.Attributes{MED: p.MED, Communities: p.Communities, LargeCommunities: p.LargeCommunities}}
		m, err := o.path()
		if err != nil {
			t.Fatal(err)
		}
		if !p.local {
			m.PeerASN, m.PeerID, m.PeerAddress = srcAS, b.src, b.src
			nlri, _ := lib.NewIPAddrPrefix(p.Prefix)
			m.Attrs[1], _ = nextHop(nlri, p.Prefix, p.NextHop)
			m.Attrs = append(m.Attrs, lib.NewPathAttributeAsPath([]lib.AsPathParamInterface{lib.NewAs4PathParam(lib.BGP_ASPATH_ATTR_TYPE_SEQ, p.numbers)}))
		}
		sent = append(sent, m)
	}
	if err := b.s.lib.DeletePath(apiutil.DeletePathRequest{Paths: sent}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.s.lib.AddPath(apiutil.AddPathRequest{Paths: sent}); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) table(t *testing.T, which Table) []string {
	t.Helper()
	var out []string
	if err := b.s.Paths(which, b.dst, netip.Prefix{}, func(p bgp.Path) { out = append(out, line(p)) }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// compare puts the policies in force and compares what becomes of the sample with
// what the oracle says.
func (b *bench) compare(t *testing.T, in, out bgp.Policy) {
	t.Helper()
	spec := b.spec
	spec.Peers = slices.Clone(b.spec.Peers)
	spec.Peers[0].Export, spec.Peers[1].Import = out, in
	if err := b.s.SetPolicies(t.Context(), &spec, nil); err != nil {
		t.Fatalf("Check accepts what gobgp does not: %v", err)
	}
	paths := sample()
	b.send(t, paths)
	importer, exporter := oracle{own: own}, oracle{own: own, export: true, self: addr("127.0.0.1")}
	var table, sent []string
	for _, p := range paths {
		if !p.local {
			ok := false
			// A next hop of one's own has no sense where no session says which: src has none.
			if p, ok = importer.apply(in, p); !ok {
				continue
			}
		}
		table = append(table, p.text())
		if p.Prefix.Addr().Is6() {
			continue // not exchanged with dst
		}
		if !p.local && slices.ContainsFunc(p.Communities, func(c bgp.Community) bool {
			return c == bgp.NoExport || c == bgp.NoAdvertise || c == bgp.NoExportSubconfed
		}) {
			continue // RFC 1997
		}
		// RFC 4271, 5.1.2 to 5.1.5: to an eBGP neighbour.
		p.numbers = append([]uint32{own}, p.numbers...)
		if p.behind = p.NextHop; p.local {
			p.behind = exporter.self
		} else {
			p.MED = nil
		}
		p.NextHop = exporter.self
		p, ok := exporter.apply(out, p)
		p.LocalPref = nil
		if ok && !slices.Contains(p.numbers, dstAS) {
			sent = append(sent, p.text())
		}
	}
	slices.Sort(table)
	slices.Sort(sent)
	for _, c := range []struct {
		name      string
		got, want []string
	}{{"taken", b.table(t, Local), table}, {"sent", b.table(t, Advertised), sent}} {
		if !slices.Equal(c.got, c.want) {
			t.Fatalf("%s:\n%s\nnot:\n%s\nimport: %s\nexport: %s", c.name, rows(c.got), rows(c.want), show(in), show(out))
		}
	}
}

func rows(lines []string) (s string) {
	for _, l := range lines {
		s += "  " + l + "\n"
	}
	return s
}

func show(p bgp.Policy) string {
	b, err := json.Marshal(p)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// draw makes policies out of what the sample is made of, so that rules match.
type draw func() uint64

// IntN is a number below n.
func (d draw) IntN(n int) int { return int(d() % uint64(n)) }

func pick[T any](d draw, list ...T) T { return list[d.IntN(len(list))] }

func some[T any](d draw, list ...T) (out []T) {
	if d.IntN(3) > 0 {
		return nil
	}
	for range 1 + d.IntN(2) {
		out = append(out, pick(d, list...))
	}
	return out
}

func (d draw) policy(export bool) bgp.Policy {
	p := bgp.Policy{Default: pick(d, "", bgp.Accept, bgp.Reject)}
	for range d.IntN(5) {
		r := bgp.Rule{Action: pick(d, "", bgp.Accept, bgp.Reject, bgp.Next, bgp.Next)}
		r.Match = bgp.Match{
			Prefixes: some(d, bgp.PrefixRange{Prefix: prefix("10.0.0.0/8")}, bgp.PrefixRange{Prefix: prefix("10.1.0.0/16"), Max: 25},
				bgp.PrefixRange{Prefix: prefix("fd00::/8"), Min: 48}, bgp.PrefixRange{Prefix: prefix("0.0.0.0/0"), Min: 24},
				bgp.PrefixRange{Prefix: prefix("172.16.0.0/12"), Min: 16, Max: 16}),
			ASPath:           some(d, "^65001_", "_65002$", "_65001_", "^65001$", "^$", "^65000_", "_65000_", "^65001( 65001)+$", "[^0]2$", "_(65002|65004)_"),
			Communities:      some(d, bgp.Community(65001<<16|100), bgp.Community(65001<<16|200), bgp.Blackhole, bgp.Community(65000<<16|1)),
			LargeCommunities: some(d, bgp.LargeCommunity{Global: 65001, Local1: 1, Local2: 2}, bgp.LargeCommunity{Global: 1}),
			NextHops:         some(d, addr("192.0.2.1"), addr("192.0.2.2"), addr("2001:db8::1"), addr("127.0.0.1")),
			Origin:           pick(d, "", "", bgp.OriginLocal, bgp.OriginLearned),
		}
		r.Set = bgp.Set{Prepend: uint8(d.IntN(3))}
		if d.IntN(3) == 0 {
			r.Set.MED = ptr(uint32(d.IntN(3)))
		}
		if d.IntN(3) == 0 && !export {
			r.Set.LocalPref = ptr(uint32(1 + d.IntN(200)))
		}
		if d.IntN(3) == 0 {
			r.Set.Communities = &bgp.Edit[bgp.Community]{Mode: pick(d, bgp.Add, bgp.Remove, bgp.Replace), List: []bgp.Community{65001<<16 | 100, bgp.NoExport}}
		}
		if d.IntN(3) == 0 {
			r.Set.LargeCommunities = &bgp.Edit[bgp.LargeCommunity]{Mode: pick(d, bgp.Add, bgp.Remove, bgp.Replace), List: []bgp.LargeCommunity{{Global: 65001, Local1: 1, Local2: 2}}}
		}
		switch d.IntN(8) {
		case 0:
			r.Set.NextHopSelf = export
		case 1:
			r.Set.NextHop = pick(d, addr("192.0.2.7"), addr("2001:db8::7"))
		}
		p.Rules = append(p.Rules, r)
	}
	return p
}

// Whatever policies say, gobgp makes of our translation what the words mean.
func TestPoliciesMeanWhatTheySay(t *testing.T) {
	b, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	d := draw(rand.NewPCG(1, 2).Uint64)
	for range 150 {
		b.compare(t, d.policy(false), d.policy(true))
	}
}

// choices decides by a fuzzer's bytes.
func choices(b []byte) draw {
	return func() (v uint64) {
		if len(b) > 0 {
			v, b = uint64(b[0]), b[1:]
		}
		return v
	}
}

// FuzzPolicy: a policy that Check accepts is one that gobgp accepts and carries out
// as it says, whatever the pattern of an AS path in it; nothing panics.
func FuzzPolicy(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, pattern := range []string{"^65001_", "(_65002)+$", "[^6]$", "^$", "65001 .*65002"} {
		b := make([]byte, 200)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b, pattern)
	}
	f.Fuzz(func(t *testing.T, drawn []byte, pattern string) {
		b, err := shared()
		if err != nil {
			t.Fatal(err)
		}
		d := choices(drawn)
		in, out := d.policy(false), d.policy(true)
		for i := range in.Rules {
			if d.IntN(2) == 0 {
				in.Rules[i].Match.ASPath = []string{pattern}
			}
		}
		spec := bgp.Spec{ASN: own, RouterID: addr("10.0.0.1"), Peers: []bgp.Peer{
			{Name: "x", Address: addr("10.0.0.2"), ASN: srcAS, Import: in, Export: out},
			// The pattern in an export policy, for whether gobgp takes it.
			{Name: "y", Address: addr("10.0.0.3"), ASN: dstAS, Export: bgp.Policy{Rules: []bgp.Rule{{Match: bgp.Match{ASPath: []string{pattern}}}}}},
		}}
		if spec.Check() != nil {
			return
		}
		if err := b.s.SetPolicies(t.Context(), &spec, nil); err != nil {
			t.Fatalf("Check accepts what gobgp does not: %v", err)
		}
		b.compare(t, in, out)
	})
}
