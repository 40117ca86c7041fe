//go:build privileged && linux

package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/test/lab"
)

// fails is one that must be refused, or find nothing: what it prints.
func fails(t *testing.T, machine string, argv ...string) string {
	t.Helper()
	out, err := world.Ctl(t.Context(), machine, argv...)
	if err == nil {
		t.Fatalf("%s: gatewayctl %s does not fail: %s", machine, strings.Join(argv, " "), out)
	}
	return out
}

// says is one whose answer is read as JSON.
func says(t *testing.T, into any, machine string, argv ...string) {
	t.Helper()
	out := ctl(t, machine, append(argv, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("%s: gatewayctl %s: %v\n%s", machine, strings.Join(argv, " "), err, out)
	}
}

// ends are the flags that name two ends.
func ends(from lab.VM, to netip.Addr) []string {
	src := from.CA
	if to.Is6() {
		src = from.CA6
	}
	return []string{"--vsid", from.VSID.String(), "--src-ca", src.String(), "--dst-ca", to.String()}
}

// TestNextHopIsWhatTheWireShows asks for the next hop of what both tenants' VMs
// send, with the same addresses, and compares it with what tshark then sees.
func TestNextHopIsWhatTheWireShows(t *testing.T) {
	for _, c := range []struct{ from, to string }{{"c11", "c12"}, {"c11", "c13"}, {"c11", "c21"}, {"f11", "f12"}, {"f11", "f21"}, {"f22", "f13"}} {
		from, to := vm(t, c.from), vm(t, c.to)
		var n v1.NextHop
		says(t, &n, from.Host, append([]string{"nexthop"}, ends(from, to.CA)...)...)
		if n.NextHop != to.CA.String() || n.Tenant != from.Tenant || n.VSID != to.VSID.Uint32() || n.Routed != (from.VSID != to.VSID) || n.DstMAC != to.MAC.String() ||
			!slices.Equal(n.SrcPAs, []string{provider(t, from.Host)}) || !slices.Equal(n.DstPAs, []string{provider(t, to.Host)}) || n.Local || n.Rule != string(tenant(t, from.Tenant).Encap) {
			t.Errorf("%s to %s: %+v", c.from, c.to, n)
		}
		file := capturing(t, "fab", "p-"+from.Host, "proto gre or udp port 4789", func() {
			if err := world.Ping(t.Context(), c.from, to.CA, patience); err != nil {
				t.Error(err)
			}
		})
		seen := false
		for _, r := range dissect(t, file, fmt.Sprintf("icmp.type == 8 && ip.src == %s && ip.dst == %s", from.CA, to.CA), "ip.src", "ip.dst", "eth.src", "eth.dst", "gre.key", "vxlan.vni") {
			macs := func(s string) string { return s[strings.LastIndexByte(s, ',')+1:] }
			if !strings.HasPrefix(r[0], n.SrcPAs[0]+",") || !strings.HasPrefix(r[1], n.DstPAs[0]+",") {
				continue // the neighbour's: it has the same addresses
			}
			seen = true
			id := r[5]
			if n.Rule == "nvgre" {
				id = fmt.Sprint(greVSID(t, r[4]))
			}
			if macs(r[2]) != n.SrcMAC || macs(r[3]) != n.DstMAC || id != fmt.Sprint(n.VSID) {
				t.Errorf("%s to %s: on the wire there is %v, and nexthop says %+v", c.from, c.to, r, n)
			}
		}
		if !seen {
			t.Errorf("%s to %s: nothing goes from %s to %s", c.from, c.to, n.SrcPAs, n.DstPAs)
		}
	}
	// To the outside, by the compartment.
	var n v1.NextHop
	says(t, &n, "h1", append([]string{"nexthop"}, ends(vm(t, "c11"), internet())...)...)
	if gw := world.Topology().Gateway.PA.Addr().String(); !n.CustomerRoute || n.Match != "0.0.0.0/0" || !n.Compartment || !slices.Equal(n.DstPAs, []string{gw}) {
		t.Errorf("to the Internet: %+v", n)
	}
	if out := fails(t, "h1", append([]string{"nexthop"}, ends(vm(t, "c11"), netip.MustParseAddr("10.1.2.99"))...)...); !strings.Contains(out, "destination-unknown") {
		t.Errorf("nobody's address: %s", out)
	}
}

func greVSID(t *testing.T, key string) uint32 {
	t.Helper()
	var n uint32
	if _, err := fmt.Sscanf(key, "0x%x", &n); err != nil {
		t.Fatalf("GRE key %q: %v", key, err)
	}
	return n >> 8
}

// down takes a VM's interface down until the test ends, and brings back what the
// kernel then forgets.
func down(t *testing.T, v lab.VM) {
	t.Helper()
	s, _ := tenant(t, v.Tenant).Subnet(v.VSID)
	exec := func(argv ...string) {
		t.Helper()
		if _, err := world.Exec(t.Context(), v.Name, argv...); err != nil {
			t.Fatal(err)
		}
	}
	exec("ip", "link", "set", "eth0", "down")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		defer cancel()
		for _, argv := range [][]string{
			{"ip", "link", "set", "eth0", "up"},
			{"ip", "route", "replace", "default", "via", s.Router().String()},
			{"ip", "addr", "replace", netip.PrefixFrom(v.CA6, s.Prefix6.Bits()).String(), "dev", "eth0"},
			{"ip", "route", "replace", "::/0", "via", s.Router6().String(), "dev", "eth0"},
		} {
			if _, err := world.Exec(ctx, v.Name, argv...); err != nil {
				t.Error(err)
			}
		}
		if err := world.Ping(ctx, v.Name, internet(), patience); err != nil {
			t.Error(err)
		}
	})
}

// TestPingWithoutGuests tries the way between two hosts that run gatewayd while
// both guests are down, to a guest on an independent host, and between provider
// addresses. Guests are asked only where they must be.
func TestPingWithoutGuests(t *testing.T) {
	for _, c := range []struct{ from, to, other, independent string }{{"c11", "c13", "c22", "c12"}, {"f11", "f13", "f22", "f12"}} {
		t.Run(c.from, func(t *testing.T) {
			from, to := vm(t, c.from), vm(t, c.to)
			ping := func(works bool, to netip.Addr, more ...string) string {
				t.Helper()
				argv := slices.Concat([]string{"ping", "-c", "2", "-i", "100ms"}, ends(from, to), more)
				if !works {
					return fails(t, from.Host, argv...)
				}
				return ctl(t, from.Host, argv...)
			}
			if out := ping(true, vm(t, c.independent).CA); !strings.Contains(out, "(guest)") || !strings.Contains(out, "2 sent, 2 answered, 0% lost\nrtt min/avg/max = ") {
				t.Errorf("to a guest on an independent host: %s", out)
			}
			if out := ping(true, to.CA, "--guest"); !strings.Contains(out, "(guest)") {
				t.Errorf("to the guest: %s", out)
			}
			down(t, from)
			down(t, to)
			heard := capturing(t, "fab", "p-"+to.Host, "proto gre or udp port 4789", func() {
				for _, ca := range []netip.Addr{to.CA, to.CA6} {
					if out := ping(true, ca, "--size", "1400", "--df"); !strings.Contains(out, "(dataplane)") || !strings.Contains(out, "1408 bytes from "+ca.String()) {
						t.Errorf("to %s: %s", ca, out)
					}
				}
			})
			if rows := dissect(t, heard, fmt.Sprintf("icmp.type == 0 && ip.src == %s && icmp.checksum.status == 1", to.CA), "ip.ttl"); len(rows) != 2 {
				t.Errorf("tshark finds %d good answers of the dataplane", len(rows))
			}
			if out := ping(true, vm(t, c.other).CA); !strings.Contains(out, "(dataplane)") {
				t.Errorf("to another virtual subnet on the same host: %s", out)
			}
			if out := ping(true, netip.MustParseAddr("10.1.1.1")); !strings.Contains(out, "(router)") {
				t.Errorf("to the router: %s", out)
			}
			if out := ping(true, netip.MustParseAddr("10.254.254.2")); !strings.Contains(out, "(dataplane)") {
				t.Errorf("to the compartment: %s", out)
			}
			if out := ping(false, to.CA, "--guest", "-W", "500ms"); !strings.Contains(out, "no answer in time") || !strings.Contains(out, "100% lost") {
				t.Errorf("to a guest that is down: %s", out)
			}
			if out := ping(false, to.CA, "--size", "1450", "--df"); !strings.Contains(out, "too-big") || !strings.Contains(out, "bytes may pass") {
				t.Errorf("too big: %s", out)
			}
		})
	}
	for _, h := range []string{"h2", "h3", "h4", "gw"} {
		pa := world.Topology().Gateway.PA.Addr().String()
		if h != "gw" {
			pa = provider(t, h)
		}
		if out := ctl(t, "h1", "ping", "--provider", pa, "-c", "2", "-i", "100ms"); !strings.Contains(out, "2 answered") {
			t.Errorf("to the provider address of %s: %s", h, out)
		}
	}
	if out := fails(t, "h1", "ping", "--provider", "192.168.2.99", "-c", "1"); !strings.Contains(out, "100% lost") {
		t.Errorf("to a provider address that nobody has: %s", out)
	}
}

// TestTraceOfAllowedAndDenied traces packets that a list allows and denies, and
// sends them; what the list counts is in the port's layers.
func TestTraceOfAllowedAndDenied(t *testing.T) {
	from, to := vm(t, "c11"), vm(t, "c13")
	for _, argv := range [][]string{
		{"acl", "add", "contoso", "diag"},
		{"acl", "rule", "add", "contoso", "diag", "--priority", "100", "--in", "--allow"},
		{"acl", "rule", "add", "contoso", "diag", "--priority", "100", "--out", "--allow", "--proto", "tcp"},
		{"acl", "rule", "add", "contoso", "diag", "--priority", "110", "--out", "--allow", "--proto", "icmp"},
		{"port", "set", from.Port(), "--acl", "diag"},
	} {
		ctl(t, "h1", argv...)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, argv := range [][]string{{"port", "set", from.Port(), "--no-acl"}, {"acl", "delete", "contoso", "diag"}} {
			if _, err := world.Ctl(ctx, "h1", argv...); err != nil {
				t.Error(err)
			}
		}
	})
	trace := func(argv ...string) (tr v1.Trace) {
		t.Helper()
		says(t, &tr, "h1", slices.Concat([]string{"trace"}, ends(from, to.CA), argv)...)
		return tr
	}
	step := func(tr v1.Trace, layer string) (s v1.TraceStep) {
		for _, s := range tr.Steps {
			if s.Layer == layer {
				return s
			}
		}
		return s
	}
	// The list takes effect with the port's next turn.
	deadline := time.Now().Add(patience)
	for step(trace("--proto", "tcp", "--dport", "80"), "acl").Group != "port diag" {
		if time.Now().After(deadline) {
			t.Fatal("the list does not come into effect")
		}
		time.Sleep(100 * time.Millisecond)
	}
	allowed := trace("--proto", "tcp", "--dport", "80")
	if s := step(allowed, "acl"); allowed.Verdict != "sent" || s.Rule != "100" || s.Verdict != "allow" || len(allowed.Outputs) != 1 || !strings.Contains(allowed.Outputs[0].Summary, "nvgre VSID 5001, PA 192.168.1.11 > 192.168.2.12") {
		t.Errorf("allowed: %+v", allowed)
	}
	if _, err := world.Get(t.Context(), "c11", service80(to.CA), 0, patience); err != nil {
		t.Error(err)
	}
	denied := trace("--proto", "udp", "--dport", "7")
	if s := step(denied, "acl"); denied.Verdict != "dropped" || denied.Reason != "acl-denied" || s.Rule != "rest" || len(denied.Outputs) != 0 {
		t.Errorf("denied: %+v", denied)
	}
	countsDrop(t, "h1", "acl-denied", func() {
		if _, err := world.Echo(t.Context(), "c11", serviceEcho(to.CA), 0, 32, silence); err == nil {
			t.Error("what the trace says is denied came through")
		}
	})
	// The neighbour's VM with the same address has no list.
	var other v1.Trace
	says(t, &other, "h1", slices.Concat([]string{"trace"}, ends(vm(t, "f11"), to.CA), []string{"--proto", "udp", "--dport", "7"})...)
	if other.Verdict != "sent" || other.Tenant != "fabrikam" {
		t.Errorf("the neighbour's: %+v", other)
	}
	var p v1.PortInspection
	says(t, &p, "h1", "port", "show", from.Port())
	counted := map[string]uint64{}
	for _, l := range p.Layers {
		for _, g := range l.Groups {
			for _, r := range g.Rules {
				if l.Name == "acl" && g.Direction == "outbound" {
					counted[r.ID] = r.Packets
				}
			}
		}
	}
	if counted["100"] == 0 || counted["rest"] == 0 {
		t.Errorf("the list has counted %v", counted)
	}
	if !slices.ContainsFunc(p.Flows, func(f v1.FlowState) bool {
		return f.Proto == "tcp" && f.Dst == service80(to.CA).String() && f.Replied != nil && f.Replied.Packets > 0 && slices.Contains(f.Rules, "acl/port diag/100")
	}) {
		t.Errorf("the connection is not among the flows: %+v", p.Flows)
	}
	if out := ctl(t, "h1", "tenant", "show", "contoso"); !strings.Contains(out, "\nacl ") {
		t.Errorf("the tenant's layers are not shown: %s", out)
	}
}

// TestCaptureIsReadBack captures one tenant's packets on a host while both send
// between the same addresses; tshark reads them, with their comments, and a trace
// takes one of them up.
func TestCaptureIsReadBack(t *testing.T) {
	from, to := vm(t, "c11"), vm(t, "c13")
	file := filepath.Join(t.TempDir(), "contoso.pcapng")
	capture := func(meanwhile func(), argv ...string) {
		t.Helper()
		done := make(chan string, 1)
		fail := make(chan error, 1)
		go func() {
			out, err := world.Ctl(t.Context(), "h1", slices.Concat([]string{"capture", "-w", file, "--seconds", "40"}, argv)...)
			done <- out
			fail <- err
		}()
		for over := false; !over; { // there is no telling when it has begun
			meanwhile()
			select {
			case <-done:
				over = true
			default:
			}
		}
		if err := <-fail; err != nil {
			t.Fatal(err)
		}
	}
	capture(func() {
		for _, x := range [][2]string{{"c11", "c13"}, {"f11", "f13"}} {
			if err := world.Ping(t.Context(), x[0], vm(t, x[1]).CA, patience); err != nil {
				t.Error(err)
			}
		}
	}, "--tenant", "contoso", "--vsid", "5001", "--ca", from.CA.String(), "--proto", "icmp", "-c", "24")
	rows := dissect(t, file, "", "frame.interface_name", "frame.comment", "icmp.type", "ip.src", "ip.checksum.status", "icmp.checksum.status")
	if len(rows) != 24 {
		t.Fatalf("%d packets were captured", len(rows))
	}
	points := map[string]int{}
	for _, r := range rows {
		point, rest, _ := strings.Cut(r[1], " ")
		points[point]++
		if !strings.HasPrefix(rest, "tenant=contoso rdid=") || !strings.Contains(rest+" ", " vsid=5001 ") {
			t.Errorf("a packet has the comment %q", r[1])
		}
		if strings.Contains(r[4]+r[5], "0") {
			t.Errorf("a packet has wrong checksums: %v", r)
		}
		onPort := strings.HasPrefix(point, "point=port")
		if want := map[bool]string{true: "vm/" + from.Port(), false: "fabric"}[onPort]; r[0] != want {
			t.Errorf("%s was seen at %s, want %s", r[1], r[0], want)
		}
	}
	for _, p := range []string{"point=port-in", "point=fabric-out", "point=fabric-in", "point=port-out"} {
		if points[p] < 4 {
			t.Errorf("%d packets at %s: %v", points[p], p, points)
		}
	}

	// What is dropped says why, and can be traced.
	forged := datagram{srcMAC: from.MAC, dstMAC: to.MAC, src: "10.1.1.77", dst: to.CA.String(), ttl: 64, marker: "FORGED"}
	capture(func() { inject(t, "c11", "eth0", forged.bytes(t)) }, "--tenant", "contoso", "--drops-only", "--reason", "source-ca-unknown", "-c", "3")
	rows = dissect(t, file, `frame.comment contains "drop=source-ca-unknown (" && frame contains "FORGED"`, "frame.interface_name", "ip.src")
	if len(rows) != 3 || !slices.Equal(rows[0], []string{"vm/" + from.Port(), "10.1.1.77"}) {
		t.Errorf("drops: %v", rows)
	}
	var tr v1.Trace
	says(t, &tr, "h1", "trace", "--pcap", file, "--number", "2")
	if tr.Verdict != "dropped" || tr.Reason != "source-ca-unknown" || tr.From != "vm/"+from.Port() {
		t.Errorf("the trace of a packet that was dropped: %+v", tr)
	}
}
