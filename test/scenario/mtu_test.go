//go:build privileged && linux

package scenario

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// fabricMTU is what a VM believes in that was not told of the overlay.
const fabricMTU = 1500

// setMTU gives the VM's NIC an MTU, and makes it forget what it learned of paths.
func setMTU(t *testing.T, v lab.VM, mtu int) error {
	t.Helper()
	for machine, iface := range map[string]string{v.Name: "eth0", v.Host: v.Port()} {
		if _, err := world.Exec(later(t), machine, "ip", "link", "set", iface, "mtu", strconv.Itoa(mtu)); err != nil {
			return err
		}
	}
	return forget(t, v.Name)
}

// large gives the VM's NIC the fabric's MTU, until the test is over.
func large(t *testing.T, v lab.VM) {
	t.Helper()
	t.Cleanup(func() {
		if err := setMTU(t, v, tenant(t, v.Tenant).MTU()); err != nil {
			t.Error(err)
		}
	})
	if err := setMTU(t, v, fabricMTU); err != nil {
		t.Fatal(err)
	}
}

// forget makes the machine forget the MTUs of paths.
func forget(t *testing.T, machine string) error {
	t.Helper()
	for _, family := range []string{"-4", "-6"} {
		if _, err := world.Exec(later(t), machine, "ip", family, "route", "flush", "cache"); err != nil {
			return err
		}
	}
	return nil
}

// TestMTU has VMs of both tenants, with the same addresses, send packets as large
// as the fabric's MTU, which the tunnels leave no room for: to VMs on other hosts
// and on the same one, and to the Internet. What may not be fragmented is reported,
// by the VM's router and with the MTU of its tenant's encapsulation; what may be
// arrives in fragments of the inner packet, whole.
func TestMTU(t *testing.T) {
	senders := map[string]lab.VM{}
	for _, p := range []string{"c", "f"} {
		senders[p] = vm(t, p+"11")
		large(t, senders[p])
		for _, dst := range []netip.Addr{vm(t, p+"12").CA, vm(t, p+"13").CA6, vm(t, p+"21").CA, vm(t, p+"22").CA6} {
			if err := world.Ping(t.Context(), p+"11", dst, patience); err != nil {
				t.Fatal(err)
			}
		}
	}

	t.Run("not to be fragmented", func(t *testing.T) {
		sent := map[string][]netip.Addr{}
		heard := listening(t, map[string]string{"c11": "eth0", "f11": "eth0", "fab": "p-h1"}, "icmp or icmp6 or proto gre or udp port 4789", func() {
			for p, v := range senders {
				sent[p] = []netip.Addr{vm(t, p+"12").CA, vm(t, p+"21").CA, vm(t, p+"22").CA, internet(), vm(t, p+"13").CA6, vm(t, p+"22").CA6}
				for _, dst := range sent[p] {
					pings(t, v, dst, fabricMTU, "do", false)
				}
			}
		})
		for p, v := range senders {
			x := tenant(t, v.Tenant)
			s, _ := x.Subnet(v.VSID)
			var want, got [][]string
			for _, dst := range sent[p] {
				router := s.Router()
				if dst.Is6() {
					router = s.Router6()
				}
				want = append(want, []string{router.String(), dst.String(), strconv.Itoa(x.MTU())})
			}
			for _, row := range dissect(t, heard[v.Name], "icmp.type == 3 || icmpv6.type == 2", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "icmp.mtu", "icmpv6.mtu") {
				// The packet's own addresses, and of the one it quotes.
				src, _, _ := strings.Cut(row[0]+row[2], ",")
				_, dst, _ := strings.Cut(row[1]+row[3], ",")
				got = append(got, []string{src, dst, row[4] + row[5]})
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s is told %v, want %v", v.Name, got, want)
			}
		}
		if rows := dissect(t, heard["fab"], "icmp.type == 8 || icmpv6.type == 128", "ip.src", "ip.dst"); len(rows) != 0 {
			t.Errorf("of what was refused, the fabric has %v", rows)
		}
		// Who was told sends what passes: each tenant exactly what its tunnel leaves.
		file := capturing(t, "fab", "p-h1", "src host 192.168.1.11", func() {
			for p, v := range senders {
				for _, dst := range sent[p] {
					pings(t, v, dst, tenant(t, v.Tenant).MTU(), "do", true)
				}
			}
		})
		full := map[string]int{}
		for _, row := range dissect(t, file, "icmp.type == 8 || icmpv6.type == 128", "ip.len", "gre.key") {
			if n, _, _ := strings.Cut(row[0], ","); n != strconv.Itoa(fabricMTU) {
				t.Errorf("the outer packet has %s bytes, want %d", n, fabricMTU)
			}
			full[tenantByKey(row[1])]++
		}
		if full["contoso"] != 4 || full["fabrikam"] != 4 {
			t.Errorf("full packets on the fabric: %v, want four of each tenant", full)
		}
	})

	t.Run("in fragments", func(t *testing.T) {
		for _, v := range senders {
			if err := forget(t, v.Name); err != nil {
				t.Fatal(err)
			}
		}
		file := capturing(t, "fab", "p-h1", "", func() {
			for p, v := range senders {
				for _, dst := range []netip.Addr{vm(t, p+"12").CA, vm(t, p+"13").CA, vm(t, p+"21").CA, vm(t, p+"22").CA, internet()} {
					pings(t, v, dst, fabricMTU, "dont", true)
					pings(t, v, dst, 4*fabricMTU, "dont", true) // fragments that are cut once more
				}
				// An IPv6 sender cuts for itself, once it is told.
				pings(t, v, vm(t, p+"13").CA6, fabricMTU, "do", false)
				pings(t, v, vm(t, p+"13").CA6, fabricMTU, "want", true)
				for _, dst := range []netip.Addr{vm(t, p+"12").CA, vm(t, p+"13").CA6, vm(t, p+"22").CA, internet()} {
					if _, err := world.Echo(t.Context(), v.Name, serviceEcho(dst), 0, 4000, patience); err != nil {
						t.Errorf("%s to %s: %v", v.Name, dst, err)
					}
				}
			}
		})
		inner := map[string]int{}
		for _, row := range dissect(t, file, "gre || vxlan", "ip.len", "ip.flags.mf", "ip.frag_offset", "gre.key", "ipv6.fraghdr.offset", "frame.number") {
			size, err := strconv.Atoi(strings.Split(row[0], ",")[0])
			mf, off := strings.Split(row[1], ","), strings.Split(row[2], ",")
			if err != nil || size > fabricMTU || mf[0] == "1" || mf[0] == "True" || off[0] != "0" {
				t.Fatalf("frame %s: the outer packet has %d bytes, more fragments %s, offset %s", row[5], size, mf[0], off[0])
			}
			if slices.ContainsFunc(off[1:], func(s string) bool { return s != "0" }) {
				inner[tenantByKey(row[3])+" 4"]++
			}
			if row[4] != "" {
				inner[tenantByKey(row[3])+" 6"]++
			}
		}
		for _, k := range []string{"contoso 4", "contoso 6", "fabrikam 4", "fabrikam 6"} {
			if inner[k] == 0 {
				t.Errorf("no inner fragment of %s on the fabric: %v", k, inner)
			}
		}
	})

	t.Run("from outside", func(t *testing.T) {
		if err := forget(t, "inet"); err != nil {
			t.Fatal(err)
		}
		file := capturing(t, "inet", "gw0", "icmp", func() {
			for _, v := range senders { // the answer is larger than the question
				if _, err := world.Echo(t.Context(), v.Name, serviceEcho(internet()), 0, 1410, patience); err != nil {
					t.Error(err)
				}
			}
		})
		told := dissect(t, file, "icmp.type == 3", "ip.src", "ip.dst", "icmp.code", "icmp.mtu")
		for _, v := range senders {
			x := tenant(t, v.Tenant)
			external, service := x.External.String(), internet().String()
			const needed = "4"
			// Nothing of the inside shows, neither in the header nor in the quoted one.
			want := []string{external + "," + service, service + "," + external, needed, strconv.Itoa(x.MTU())}
			if !slices.ContainsFunc(told, func(row []string) bool { return slices.Equal(row, want) }) {
				t.Errorf("the Internet is told %v, want %v of %s", told, want, x.Name)
			}
		}
	})

	// Both ends agree on segments that do not fit, and hand them over in frames of
	// many: senders of TCP must be told, too.
	t.Run("TCP", func(t *testing.T) {
		for p, v := range senders {
			other := vm(t, p+"13")
			large(t, other)
			for _, dst := range []netip.Addr{other.CA, other.CA6} {
				for d, sender := range map[service.Direction]lab.VM{service.Up: v, service.Down: other} {
					for _, end := range []lab.VM{v, other} { // who knows of it announces a smaller segment
						if err := forget(t, end.Name); err != nil {
							t.Fatal(err)
						}
					}
					s, err := world.StartStream(v.Name, dst, service.StreamRequest{Direction: d, Bytes: 2 << 20})
					if err != nil {
						t.Fatal(err)
					}
					defer s.Stop()
					if _, err := s.Wait(t.Context()); err != nil {
						t.Errorf("%s to %s %s: %v", v.Name, dst, d, err)
					}
					to := map[bool]netip.Addr{true: v.CA, false: v.CA6}[dst.Is4()]
					if d == service.Up {
						to = dst
					}
					if out := in(t, sender.Name, "ip", "route", "get", to.String()); !strings.Contains(out, fmt.Sprintf("mtu %d", tenant(t, v.Tenant).MTU())) {
						t.Errorf("%s has not learned the MTU to %s: %s", sender.Name, to, out)
					}
				}
			}
		}
	})
}

// tenantByKey tells whose a packet of the fabric is: only one of them uses NVGRE.
func tenantByKey(greKey string) string {
	if greKey == "" {
		return "fabrikam"
	}
	return "contoso"
}

// pings sends one echo request in an IP packet of the size, and wants an answer
// or none.
func pings(t *testing.T, v lab.VM, dst netip.Addr, size int, discover string, answered bool) {
	t.Helper()
	header := 28
	if dst.Is6() {
		header = 48
	}
	out, err := world.Exec(t.Context(), v.Name, "ping", "-n", "-c", "1", "-W", map[bool]string{true: "20", false: "1"}[answered],
		"-M", discover, "-s", strconv.Itoa(size-header), dst.String())
	if (err == nil) != answered {
		t.Errorf("%s to %s, %d bytes, -M %s: answered is %v\n%s%v", v.Name, dst, size, discover, err == nil, out, err)
	}
}
