//go:build privileged && linux

package scenario

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// TestWireFormat lets tshark judge everything that gatewayd sends, as gateway
// and as host, while VMs ping, query, and move bulk both ways.
func TestWireFormat(t *testing.T) {
	for _, c := range []struct {
		name, machine, pa string
		vms               []string
		vsids             map[string][]uint64 // by tenant: where it may send to
	}{
		{"gateway", "gw", "192.168.1.1", []string{"c11", "c12", "c21", "f11", "f12", "f21"},
			map[string][]uint64{"contoso": {5001, 5002}, "fabrikam": {6001, 6002}}},
		{"host", "h1", "192.168.1.11", []string{"c11", "c22", "f11", "f22"},
			map[string][]uint64{"contoso": {5000, 5001, 5002}, "fabrikam": {6000, 6001, 6002}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sendsWhole(t, c.machine, "pa0")
			file := capturing(t, "fab", "p-"+c.machine, "ip src host "+c.pa, func() {
				for _, name := range c.vms {
					traffic(t, name)
				}
			})
			judgeAll(t, file)
			judgeNVGRE(t, file, c.vsids["contoso"])
			judgeVXLAN(t, file, c.vsids["fabrikam"])
		})
	}
}

// sendsWhole has the machine finish packets before they leave by the interface, until
// the test is over: whoever captures behind it sees what is on a wire, and not what a
// network adapter would make of it.
func sendsWhole(t *testing.T, machine, iface string) {
	t.Helper()
	set := func(ctx context.Context, to string) {
		if _, err := world.Exec(ctx, machine, "ethtool", "-K", iface, "tx", to, "tso", to, "gso", to); err != nil {
			t.Fatal(err)
		}
	}
	set(t.Context(), "off")
	t.Cleanup(func() { set(later(t), "on") })
}

// traffic makes packets of every kind between a VM and the Internet, and a VM
// and its neighbours.
func traffic(t *testing.T, name string) {
	t.Helper()
	v := vm(t, name)
	for _, other := range world.VMs(v.Tenant) {
		if other.Name != name {
			if err := world.Ping(t.Context(), name, other.CA, patience); err != nil {
				t.Error(err)
			}
		}
	}
	if err := world.Ping(t.Context(), name, internet(), patience); err != nil {
		t.Error(err)
	}
	for _, size := range []int{32, 4000} {
		if _, err := world.Echo(t.Context(), name, serviceEcho(internet()), 0, size, patience); err != nil {
			t.Error(err)
		}
	}
	for _, d := range []service.Direction{service.Up, service.Down} {
		s, err := world.StartStream(name, internet(), service.StreamRequest{Direction: d, Bytes: 256 << 10})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		if _, err := s.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// judgeAll holds what is true of either encapsulation over IPv4.
func judgeAll(t *testing.T, file string) {
	t.Helper()
	for _, r := range judgeTunnels(t, file, "ip.flags.df") {
		if !strings.HasPrefix(r[1], "1") && !strings.HasPrefix(r[1], "True") {
			t.Fatalf("frame %s: the outer packet may be fragmented", r[0])
		}
	}
}

// judgeTunnels holds what is true of either over IPv6 too. It gives the packets'
// numbers and fields.
func judgeTunnels(t *testing.T, file string, fields ...string) (rows [][]string) {
	t.Helper()
	if rows := dissect(t, file, "!(gre || udp.dstport==4789)", "frame.number"); len(rows) > 0 {
		t.Errorf("%d packets are neither NVGRE nor VXLAN:\n%s", len(rows), inFull(t, file, rows[0][0]))
	}
	if rows := dissect(t, file, "_ws.malformed", "frame.number", "frame.protocols"); len(rows) > 0 {
		t.Errorf("tshark finds %d packets malformed: %v\n%s", len(rows), rows[0], inFull(t, file, rows[0][0]))
	}
	for _, r := range judgeSums(t, file, "", append(fields, "frame.len")...) {
		last := len(r) - 1
		if n, err := strconv.Atoi(r[last]); err != nil || n > 14+1500 {
			t.Fatalf("frame %s has %s bytes: the outer packet exceeds the MTU", r[0], r[last])
		}
		rows = append(rows, r[:last])
	}
	return rows
}

// judgeSums wants the checksums of all packets that the filter passes to be good,
// and gives these packets' numbers and fields.
func judgeSums(t *testing.T, file, filter string, fields ...string) (rows [][]string) {
	t.Helper()
	const bad = "0"
	sums := []string{"ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "icmp.checksum.status"}
	good := make([]int, len(sums))
	for _, r := range dissect(t, file, filter, slices.Concat(sums, []string{"frame.number", "tcp.checksum", "tcp.checksum_calculated"}, fields)...) {
		for i := range sums {
			status := strings.Split(r[i], ",")
			// One TCP segment in 65536 has a sum of zero, for which Linux writes
			// 0xffff. In ones' complement the two are the same number, and every
			// receiver takes either; tshark calls it bad.
			if sums[i] == "tcp.checksum.status" && r[5] == "0xffff" && r[6] == "0x0000" {
				continue
			}
			if slices.Contains(status, bad) {
				t.Fatalf("frame %s: %s is %s\n%s", r[4], sums[i], r[i], inFull(t, file, r[4]))
			}
			if slices.Contains(status, "1") {
				good[i]++
			}
		}
		rows = append(rows, slices.Concat(r[4:5], r[7:]))
	}
	// The check must have seen what it checks.
	for i, n := range good {
		if n == 0 {
			t.Errorf("no packet with a good %s", sums[i])
		}
	}
	return rows
}

// inFull is all that tshark says of a frame, with its bytes: a capture is gone
// when the lab is.
func inFull(t *testing.T, file, frame string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "tshark",
		append(lab.Judgement(), "-n", "-r", file, "-Vx", "-Y", "frame.number == "+frame)...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	return string(out)
}

func judgeNVGRE(t *testing.T, file string, vsids []uint64) {
	t.Helper()
	seen, flows := map[uint64]int{}, map[uint64]bool{}
	for _, r := range dissect(t, file, "gre", "gre.flags_and_version", "gre.proto", "gre.key", "frame.number") {
		key, err := strconv.ParseUint(r[2], 0, 32)
		if err != nil || r[0] != "0x2000" || !strings.HasSuffix(r[1], "6558") || !slices.Contains(vsids, key>>8) {
			t.Fatalf("frame %s: flags %s, protocol %s, key %s; want only the key present, 0x6558, a VSID of %v", r[3], r[0], r[1], r[2], vsids)
		}
		seen[key>>8]++
		flows[key&0xff] = true
	}
	wantAll(t, seen, vsids)
	if len(flows) < 4 {
		t.Errorf("only %d different FlowIDs: the flow hash does not reach them", len(flows))
	}
}

func judgeVXLAN(t *testing.T, file string, vsids []uint64) {
	t.Helper()
	seen, ports := map[uint64]int{}, map[string]bool{}
	for _, r := range dissect(t, file, "vxlan", "vxlan.flags", "vxlan.vni", "udp.srcport", "frame.number", "vxlan.reserved8", "vxlan.gbp") {
		vni, err := strconv.ParseUint(r[1], 10, 32)
		port, _, _ := strings.Cut(r[2], ",")
		if n, perr := strconv.Atoi(port); err != nil || perr != nil || r[0] != "0x0800" || n < 49152 ||
			r[4] != "0" || r[5] != "0" || !slices.Contains(vsids, vni) {
			t.Fatalf("frame %s: flags %s, VNI %s, source port %s; want only I, a VSID of %v, a dynamic port", r[3], r[0], r[1], port, vsids)
		}
		seen[vni]++
		ports[port] = true
	}
	wantAll(t, seen, vsids)
	if len(ports) < 4 {
		t.Errorf("only %d different source ports: the flow hash does not reach them", len(ports))
	}
}

func wantAll(t *testing.T, seen map[uint64]int, vsids []uint64) {
	t.Helper()
	for _, v := range vsids {
		if seen[v] == 0 {
			t.Errorf("no packet in VSID %d; seen: %s", v, fmt.Sprint(seen))
		}
	}
}
