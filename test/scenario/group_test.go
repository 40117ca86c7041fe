//go:build privileged && linux

package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/hnvgate/hnvgate/test/lab"
)

// groups are the provider network's, one for the first subnet of each tenant.
var groups = map[string]string{"contoso": "239.1.1.1", "fabrikam": "239.1.1.2"}

// TestMulticastGroup has the broadcasts of a virtual subnet of each tenant carried
// by a group of the provider network: one packet leaves the sender's host,
// however many others there are; each VM of the subnet has one copy, and the
// sender none. The kernel's vxlan device is in its tenant's group too; Open vSwitch,
// which knows no groups, is heard as before.
func TestMulticastGroup(t *testing.T) {
	const times = 3
	passMulticast(t)
	for name, group := range groups {
		x := tenant(t, name)
		for _, m := range gatewayds {
			ctl(t, m, "subnet", "set", name, x.Subnets[1].VSID.String(), "--multicast-group", group)
			undo(t, m, "subnet", "set", name, x.Subnets[1].VSID.String(), "--no-multicast-group")
		}
	}
	kernelGroup(t, "h4", "fabrikam", "6001", groups["fabrikam"])
	settled(t, gatewayds...)

	var everybody []lab.VM // of the two subnets; what c12 sends goes out by unicast
	for _, n := range []string{"c11", "c12", "c13", "f11", "f12", "f13"} {
		everybody = append(everybody, vm(t, n))
	}
	send := func(count int) {
		var g errgroup.Group
		for _, v := range everybody {
			g.Go(func() error { // nobody answers: that is not asked for
				_, _ = world.Exec(t.Context(), v.Name, "ping", "-b", "-n", "-c", fmt.Sprint(count), "-i", "0.2", "-W", "1", subnetBroadcast(t, v).String())
				return nil
			})
		}
		_ = g.Wait()
	}
	send(1) // Open vSwitch loses its first packet to a host whose MAC it does not know
	ears := map[string]string{"fab": "any"}
	hearers := append(slices.Clone(everybody), vm(t, "c22"), vm(t, "f22")) // the last ones are in other subnets
	for _, v := range hearers {
		ears[v.Name] = "eth0"
	}
	heard := listening(t, ears, "proto gre or udp port 4789 or icmp[icmptype] == icmp-echo", func() { send(times) })

	left := leaving(t, heard["fab"], everybody)
	for _, to := range hearers {
		copies := map[string]int{}
		for _, row := range dissect(t, heard[to.Name], "icmp.type == 8", "ip.src", "ip.dst") {
			copies[row[0]]++
		}
		for _, from := range everybody {
			if from.Tenant != to.Tenant {
				continue // has the addresses of one who is counted
			}
			want := 0
			if to.VSID == from.VSID && (to.Name != "c12" || from.Name == "c12") { // Open vSwitch is in no group
				want = times // of the sender's own, what it sent
			}
			if n := copies[from.CA.String()]; n != want {
				t.Errorf("%s has %d copies of what %s sent, want %d", to.Name, n, from.Name, want)
			}
		}
	}
	for _, from := range everybody {
		want := map[string]int{groups[from.Tenant]: times}
		if from.Host == "h3" {
			want = map[string]int{provider(t, "h1"): times, provider(t, "h2"): times}
		}
		if got := left[from.Name]; !maps.Equal(got, want) {
			t.Errorf("%d broadcasts of %s left its host as packets to %v, want %v", times, from.Name, got, want)
		}
	}
}

// leaving counts the packets with an echo request of each VM that its host sends,
// by where to: as they come into the fabric, before a switch multiplies them.
func leaving(t *testing.T, file string, vms []lab.VM) map[string]map[string]int {
	t.Helper()
	type origin struct{ port, vsid, addrs string }
	names := map[origin]string{}
	out := map[string]map[string]int{}
	for _, v := range vms {
		names[origin{indexOf(t, "fab", "p-"+v.Host), v.VSID.String(), provider(t, v.Host) + "," + v.CA.String()}] = v.Name
		out[v.Name] = map[string]int{}
	}
	for _, row := range dissect(t, file, "icmp.type == 8 && sll.pkttype != 4", "sll.ifindex", "gre.key", "vxlan.vni", "ip.src", "ip.dst") {
		vsid := row[2]
		if key, err := strconv.ParseUint(row[1], 0, 32); err == nil {
			vsid = strconv.FormatUint(key>>8, 10)
		}
		dst, _, _ := strings.Cut(row[4], ",")
		if name, ok := names[origin{row[0], vsid, row[3]}]; ok {
			out[name][dst]++
		}
	}
	return out
}

// indexOf is the number of the machine's interface.
func indexOf(t *testing.T, machine, iface string) string {
	t.Helper()
	index, _, _ := strings.Cut(in(t, machine, "ip", "-o", "link", "show", "dev", iface), ":")
	return index
}

// passMulticast makes the fabric's router pass groups from subnet to subnet, for
// as long as the test runs: its kernel has no daemon that would set it up.
func passMulticast(t *testing.T) {
	t.Helper()
	in(t, "fab", "ip", "link", "add", "mc-a", "type", "veth", "peer", "name", "mc-b")
	t.Cleanup(func() {
		for _, c := range [][]string{{"ip", "link", "del", "mc-a"}, {"nft", "delete", "table", "netdev", "groups"}} {
			if _, err := world.Exec(later(t), "fab", c...); err != nil {
				t.Error(err)
			}
		}
	})
	if _, err := world.ExecInput(t.Context(), "fab", `table netdev groups {
	chain a { type filter hook ingress device mc-a priority 0; policy drop; ip daddr 224.0.0.0/4 accept; }
	chain b { type filter hook ingress device mc-b priority 0; policy drop; ip daddr 224.0.0.0/4 accept; }
}
`, "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"a", "b"} {
		in(t, "fab", "ip", "link", "set", "mc-"+s, "master", "br-"+s, "up")
	}
}

// kernelGroup puts the host's vxlan device of the VSID into the group instead of
// sending copies by unicast, until the test is over.
func kernelGroup(t *testing.T, host, tenant, vsid, group string) {
	t.Helper()
	router, dev := host+"-"+tenant, "vx"+vsid
	const flood = "00:00:00:00:00:00"
	var pas []string
	for line := range strings.Lines(in(t, router, "bridge", "fdb", "show", "dev", dev)) {
		if f := strings.Fields(line); f[0] == flood {
			pas = append(pas, f[2])
		}
	}
	entries := func(verb string, pas []string) (out [][]string) {
		for _, pa := range pas {
			out = append(out, []string{"bridge", "fdb", verb, flood, "dev", dev, "dst", pa, "self", "permanent"})
		}
		return out
	}
	aim := func(to ...string) [][]string { // groups are joined when a device comes up
		return [][]string{{"ip", "link", "set", dev, "down"}, append([]string{"ip", "link", "set", dev, "type", "vxlan"}, to...), {"ip", "link", "set", dev, "up"}}
	}
	t.Cleanup(func() { // one of the copies by unicast is now the device's own
		for _, c := range append(aim("remote", pas[0]), entries("append", pas[1:])...) {
			if _, err := world.Exec(later(t), router, c...); err != nil {
				t.Error(err)
			}
		}
	})
	for _, c := range append(entries("del", pas), aim("group", group, "dev", "if"+indexOf(t, host, "pa0"))...) {
		in(t, router, c...)
	}
}
