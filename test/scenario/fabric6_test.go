//go:build privileged && linux

package scenario

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// changeRecords has every gatewayd replace those of its records that change says
// it changed, until the test is over.
func changeRecords(t *testing.T, change func(*v1.LookupRecord) bool) {
	t.Helper()
	for _, m := range gatewayds {
		var shown struct{ Items []v1.LookupRecord }
		if err := json.Unmarshal([]byte(ctl(t, m, "record", "list", "-o", "json")), &shown); err != nil {
			t.Fatal(err)
		}
		before, after := v1.Document{APIVersion: v1.APIVersion}, v1.Document{APIVersion: v1.APIVersion}
		for _, r := range shown.Items {
			was := r
			if r.Origin == v1.OriginConfigured && change(&r) {
				before.LookupRecords = append(before.LookupRecords, was)
				after.LookupRecords = append(after.LookupRecords, r)
			}
		}
		if err := world.Apply(t.Context(), m, "changed.yaml", after); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := world.Apply(later(t), m, "restored.yaml", before); err != nil {
				t.Error(err)
			}
		})
	}
}

// on runs commands on a machine, and others when the test is over.
func on(t *testing.T, machine string, do, undo []string) {
	t.Helper()
	t.Cleanup(func() {
		for _, c := range undo {
			if _, err := world.Exec(later(t), machine, strings.Fields(c)...); err != nil {
				t.Error(err)
			}
		}
	})
	for _, c := range do {
		in(t, machine, strings.Fields(c)...)
	}
}

// The fabric by IPv6: beside each machine's provider address, another one.
const fabric6 = "2001:db8::/32"

var (
	pas6     = map[string]string{"gw": "2001:db8:1::1", "h1": "2001:db8:1::11", "h2": "2001:db8:2::12", "h4": "2001:db8:2::14"}
	routers6 = map[string]string{"br-a": "2001:db8:1::fe", "br-b": "2001:db8:2::fe"}
)

// router6 is the fabric's router in the network of the machine's address.
func router6(machine string) string {
	if strings.HasPrefix(pas6[machine], "2001:db8:1:") {
		return routers6["br-a"]
	}
	return routers6["br-b"]
}

// overIPv6 gives the fabric and its machines IPv6 addresses, and puts the VMs
// behind those, until the test is over. The gateway serves all others as before.
func overIPv6(t *testing.T, vms ...string) {
	t.Helper()
	const off = "net.ipv6.conf.%s.disable_ipv6=%d"
	for br, a := range routers6 {
		on(t, "fab", []string{"sysctl -qw net.ipv6.conf.all.forwarding=1 " + fmt.Sprintf(off, br, 0), "ip addr add " + a + "/64 dev " + br + " nodad"},
			[]string{"sysctl -qw " + fmt.Sprintf(off, br, 1)})
	}
	for m := range pas6 {
		on(t, m, []string{"sysctl -qw net.ipv6.conf.pa0.accept_ra=0 " + fmt.Sprintf(off, "pa0", 0)}, []string{"sysctl -qw " + fmt.Sprintf(off, "pa0", 1)})
	}
	for _, m := range gatewayds {
		undo(t, m, "provider-address", "delete", pas6[m])
		undo(t, m, "provider-route", "delete", fabric6)
		ctl(t, m, "provider-address", "add", pas6[m]+"/64", "--interface", "pa0")
		ctl(t, m, "provider-route", "add", fabric6, "--next-hop", router6(m))
	}
	moved := map[string]string{} // by VSID and CA
	for _, name := range vms {
		for _, r := range world.RecordsOf(vm(t, name)) {
			moved[fmt.Sprintf("%s %s", r.VSID, r.CA)] = pas6[world.Where(name)]
		}
	}
	for _, x := range world.Topology().Tenants {
		moved[fmt.Sprintf("%s %s", x.GatewayVSID, x.GatewayCA)] = pas6["gw"]
	}
	changeRecords(t, func(r *v1.LookupRecord) bool {
		pa, ok := moved[fmt.Sprintf("%d %s", r.VSID, r.CA)]
		if ok {
			r.PA = pa
		}
		return ok
	})
	settled(t, gatewayds...)
}

// kernelOverIPv6 gives the host of the kernel's vxlan devices an IPv6 address and
// further devices, by which it reaches the VMs of its tenant and the compartment;
// its own VMs' packets get smaller by what the outer headers are longer.
func kernelOverIPv6(t *testing.T, vms ...string) {
	t.Helper()
	const m, router = "h4", "h4-fabrikam"
	x := tenant(t, "fabrikam")
	on(t, m, []string{"ip addr add " + pas6[m] + "/64 dev pa0 nodad", "ip route add " + fabric6 + " via " + router6(m)},
		[]string{"ip route del " + fabric6, "ip addr del " + pas6[m] + "/64 dev pa0"})
	mtu := 1500 - x.Encap.Overhead(true)
	records := []lab.Record{{VSID: x.GatewayVSID, CA: x.GatewayCA, MAC: hnv.CompartmentMAC(x.GatewayVSID), PA: netip.MustParseAddr(pas6["gw"])}}
	for _, name := range vms {
		v := vm(t, name)
		switch {
		case v.Tenant != x.Name:
		case v.Host != m:
			r := world.RecordsOf(v)[0]
			r.PA = netip.MustParseAddr(pas6[v.Host])
			records = append(records, r)
		default:
			set := "ip link set eth0 mtu "
			on(t, name, []string{set + strconv.Itoa(mtu)}, []string{set + strconv.Itoa(x.MTU())})
		}
	}
	for _, s := range x.Subnets {
		dev := "six" + s.VSID.String()
		on(t, m, []string{fmt.Sprintf("ip link add %s netns %s mtu %d type vxlan id %s local %s dstport 4789 ttl 64 nolearning", dev, world.NS(router), mtu, s.VSID, pas6[m])}, nil)
		on(t, router, []string{
			fmt.Sprintf("ip link set %s master br%s up", dev, s.VSID),
			fmt.Sprintf("ip link set %s type bridge_slave learning off neigh_suppress on", dev),
		}, []string{"ip link del " + dev})
		// What the router sends itself is a bridge's, which is as the smallest port.
		on(t, router, []string{fmt.Sprintf("ip link set br%s mtu %d", s.VSID, mtu)}, []string{fmt.Sprintf("ip link set br%s mtu %d", s.VSID, x.MTU())})
	}
	for _, r := range records {
		to := func(dev string) string {
			return fmt.Sprintf("bridge fdb replace %s dev %s%s master static", r.MAC, dev, r.VSID)
		}
		on(t, router, []string{fmt.Sprintf("bridge fdb replace %s dev six%s dst %s self permanent", r.MAC, r.VSID, r.PA), to("six")}, []string{to("vx")})
	}
}

// TestIPv6Fabric has VMs of both tenants, with the same customer addresses, behind
// provider addresses of IPv6, on hosts that run gatewayd and on one of the kernel's
// own: they reach each other and, through the same gateway as those that are still
// behind IPv4, the Internet.
func TestIPv6Fabric(t *testing.T) {
	vms := []string{"c11", "c13", "c22", "f11", "f12", "f13", "f21", "f22"}
	overIPv6(t, vms...)
	kernelOverIPv6(t, vms...)
	sendsWhole(t, "h1", "pa0")
	sendsWhole(t, "gw", "pa0")
	files := map[string]string{}
	sends := func(m string) string { return "ip6 src host " + pas6[m] + " and not icmp6" } // neighbor discovery
	files["h1"] = capturing(t, "fab", "p-h1", sends("h1"), func() {
		files["gw"] = capturing(t, "fab", "p-gw", sends("gw"), func() { converse(t, vms) })
	})
	for m, vsids := range map[string][2][]uint64{"h1": {{5000, 5001}, {6000, 6001, 6002}}, "gw": {{5001, 5002}, {6001, 6002}}} {
		labels := map[string]bool{}
		for _, r := range judgeTunnels(t, files[m], "ipv6.src", "ipv6.nxt", "udp.checksum", "ipv6.flow") {
			src, _, _ := strings.Cut(r[1], ",")
			next, _, _ := strings.Cut(r[2], ",")
			sum, _, _ := strings.Cut(r[3], ",")
			label, _, _ := strings.Cut(r[4], ",")
			labels[next+" "+label] = true
			// The tunnel is right behind the IPv6 header; over UDP, with a checksum
			// (RFC 8200 section 8.1).
			if src != pas6[m] || next != "47" && (next != "17" || sum == "0x0000") {
				t.Fatalf("frame %s of %s: from %s, next header %s, checksum %s\n%s", r[0], m, src, next, sum, inFull(t, files[m], r[0]))
			}
		}
		if len(labels) < 8 {
			t.Errorf("%s: only %d flow labels: the flow hash does not reach them (RFC 6438)", m, len(labels))
		}
		judgeNVGRE(t, files[m], vsids[0])
		judgeVXLAN(t, files[m], vsids[1])
	}
}

// converse has the VMs talk to those of their tenant and to the Internet in every
// way, and be reached from there.
func converse(t *testing.T, vms []string) {
	t.Helper()
	const everything = "icmp tcp udp"
	open := map[way]bool{}
	for _, from := range vms {
		open = allOf(open, ways(from, "", everything))
		for _, to := range vms {
			if from != to && from[0] == to[0] {
				open = allOf(open, ways(from, to, everything))
			}
		}
	}
	areOpen(t, open)
	for _, m := range world.Mappings() {
		if id, err := world.Get(t.Context(), "inet", m.External, 0, patience); err != nil || id.Name != m.VM {
			t.Errorf("%s leads to %q, want %s (%v)", m.External, id.Name, m.VM, err)
		}
	}
	streams := map[string]*lab.Stream{}
	for _, p := range []string{"c", "f"} {
		from := p + "11"
		to := []netip.Addr{internet(), vm(t, p+"13").CA, vm(t, p+"13").CA6}
		if slices.Contains(vms, p+"12") {
			to = append(to, vm(t, p+"12").CA, vm(t, p+"12").CA6)
		}
		for _, to := range to {
			if id, err := world.Echo(t.Context(), from, serviceEcho(to), 0, 4000, patience); err != nil {
				t.Errorf("%s to %s by UDP in fragments: %q sees %q (%v)", from, to, id.Name, id.Peer, err)
			}
			for _, d := range []service.Direction{service.Up, service.Down} {
				s, err := world.StartStream(from, to, service.StreamRequest{Direction: d, Bytes: 2 << 20})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(s.Stop)
				streams[fmt.Sprintf("%s, %s, %s", from, to, d)] = s
			}
		}
	}
	whole(t, streams)
}
