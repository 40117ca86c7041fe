//go:build privileged && linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/test/lab/service"
)

// world is the lab of independent hosts that this package's tests share.
var world *Lab

func TestMain(m *testing.M) { os.Exit(withWorld(m)) }

func withWorld(m *testing.M) int {
	bin, err := os.MkdirTemp("", "hnvlab")
	if err == nil {
		defer os.RemoveAll(bin)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if bin, err = Programs(ctx, bin, OwnPrograms); err == nil {
			err = errors.Join(Sweep("judges"), Sweep("killed"))
		}
		if err == nil {
			world, err = New("judges"+strconv.Itoa(os.Getpid()), Options{Topology: Independent(), Bin: bin})
		}
		if err == nil {
			err = world.Up(ctx)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := world.Down(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

const patience = 30 * time.Second

func addr(s string, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(s), uint16(port))
}

// TestIndependentHostsCarryTheirTenants goes every way a VM's packet can take
// on the judges: within a subnet and between subnets, on one host and across
// the fabric's router, for two tenants with the same addresses at once.
func TestIndependentHostsCarryTheirTenants(t *testing.T) {
	for _, c := range []struct{ from, to, server string }{
		{"c11", "10.1.1.12", "c12"}, {"c12", "10.1.1.11", "c11"}, // one subnet, across
		{"c12", "10.1.2.21", "c21"}, {"c11", "10.1.2.22", "c22"}, // two subnets, one host
		{"c11", "10.1.2.21", "c21"}, {"c21", "10.1.1.11", "c11"}, // two subnets, across
		{"f11", "10.1.1.12", "f12"}, {"f12", "10.1.1.11", "f11"},
		{"f12", "10.1.2.21", "f21"}, {"f11", "10.1.2.22", "f22"},
		{"f11", "10.1.2.21", "f21"}, {"f21", "10.1.1.11", "f11"},
	} {
		t.Run(c.from+" to "+c.server, func(t *testing.T) {
			vm, err := world.Topology().VM(c.from)
			if err != nil {
				t.Fatal(err)
			}
			if err := world.Ping(t.Context(), c.from, netip.MustParseAddr(c.to), patience); err != nil {
				t.Error(err)
			}
			id, err := world.Get(t.Context(), c.from, addr(c.to, service.HTTPPort), 0, patience)
			if err != nil || id.Name != c.server || !strings.HasPrefix(id.Peer, vm.CA.String()+":") {
				t.Errorf("web server at %s: %+v, %v", c.to, id, err)
			}
			id, err = world.Echo(t.Context(), c.from, addr(c.to, service.EchoPort), 0, 4000, patience)
			if err != nil || id.Name != c.server {
				t.Errorf("UDP echo at %s, in fragments: %+v, %v", c.to, id, err)
			}
		})
	}
}

// TestIndependentHostsAnswerARP checks the distributed router's MAC address,
// the records' MAC addresses, and silence for addresses without a record.
func TestIndependentHostsAnswerARP(t *testing.T) {
	for _, vm := range []string{"c12", "f12"} {
		for _, ca := range []string{"10.1.1.1", "10.1.1.11", "10.1.1.99"} {
			// The datagram's fate does not matter, the ARP request before it does.
			_, _ = world.Exec(t.Context(), vm, "ping", "-n", "-c", "1", "-W", "1", ca)
		}
		out, err := world.Exec(t.Context(), vm, "ip", "neigh", "show")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"10.1.1.1 dev eth0 lladdr 02:68:6e:00:00:01",
			"10.1.1.11 dev eth0 lladdr 00:15:5d:01:01:0b",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%s has no neighbour %q in:\n%s", vm, want, out)
			}
		}
		if strings.Contains(out, "10.1.1.99 dev eth0 lladdr") {
			t.Errorf("%s got an answer for an address without a record:\n%s", vm, out)
		}
	}
}

// TestIndependentHostsOnTheWire lets tshark say what the judges send.
func TestIndependentHostsOnTheWire(t *testing.T) {
	for _, c := range []struct {
		from, to, machine, filter string
		key                       string // field with the VSID
		vsid                      func(string) uint64
		want                      uint64
	}{
		{"c11", "10.1.1.12", "h5", "gre.flags_and_version==0x2000 && gre.proto==0x6558", "gre.key", fromKey, 5001},
		{"c11", "10.1.2.21", "h5", "gre.flags_and_version==0x2000 && gre.proto==0x6558", "gre.key", fromKey, 5002},
		{"f11", "10.1.1.12", "h6", "udp.dstport==4789 && vxlan.flag_i==1", "vxlan.vni", decimal, 6001},
		{"f11", "10.1.2.21", "h6", "udp.dstport==4789 && vxlan.flag_i==1", "vxlan.vni", decimal, 6002},
	} {
		t.Run(c.from+" to "+c.to, func(t *testing.T) {
			capture, err := world.Capture(t.Context(), "fab", "p-"+c.machine, "ip proto 47 or udp port 4789")
			if err != nil {
				t.Fatal(err)
			}
			if err := world.Ping(t.Context(), c.from, netip.MustParseAddr(c.to), patience); err != nil {
				t.Error(err)
			}
			file, err := capture.Stop(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			rows, err := world.Dissect(t.Context(), file, c.filter+" && icmp.type==8", c.key, "ip.src", "eth.src", "ip.ttl", "ip.checksum.status", "ip.len")
			if err != nil {
				t.Fatal(err)
			}
			if len(rows) == 0 {
				t.Fatal("no echo request in the capture")
			}
			for _, r := range rows {
				src, dst := strings.Split(r[1], ","), strings.Split(r[2], ",")
				if got := c.vsid(r[0]); got != c.want || len(src) != 2 || src[1] != "10.1.1.11" || len(dst) != 2 {
					t.Errorf("VSID %d, row %v; want VSID %d from 10.1.1.11", got, r, c.want)
				}
				if r[4] != "1,1" {
					t.Errorf("IP checksums %s, want both good", r[4])
				}
				routed := !strings.HasPrefix(c.to, "10.1.1.")
				if ttl, mac := "64,64", "00:15:5d:01:01:0b"; !routed && (r[3] != ttl || dst[1] != mac) ||
					routed && (r[3] != "64,63" || dst[1] != "02:68:6e:00:00:01") {
					t.Errorf("routed %v: TTLs %s, inner source %s", routed, r[3], dst[1])
				}
			}
		})
	}
}

func fromKey(s string) uint64 {
	n, _ := strconv.ParseUint(s, 0, 32)
	return n >> 8
}

func decimal(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 32)
	return n
}

// TestIndependentHostsMigrateVMs moves a VM of each tenant to the other host
// and back while a stream to it runs.
func TestIndependentHostsMigrateVMs(t *testing.T) {
	for _, c := range []struct{ vm, peer, to, back string }{
		{"c12", "c21", "h5", "h3"},
		{"f12", "f21", "h6", "h4"},
	} {
		t.Run(c.vm, func(t *testing.T) {
			vm, err := world.Topology().VM(c.vm)
			if err != nil {
				t.Fatal(err)
			}
			s, err := world.StartStream(c.peer, vm.CA, service.StreamRequest{Direction: service.Down, Bytes: 6 << 20, Rate: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Stop()
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			for _, host := range []string{c.to, c.back} {
				r, _ := s.Progress()
				if err := s.Passed(ctx, r.Bytes+1<<20); err != nil {
					t.Fatal(err)
				}
				if err := world.Migrate(ctx, c.vm, host); err != nil {
					t.Fatal(err)
				}
			}
			r, err := s.Wait(ctx)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d bytes in %v, longest pause %v", r.Bytes, r.Elapsed, r.Longest)
		})
	}
}

// TestKernelHostsCarryIPv6 goes the kernel hosts' ways by IPv6 too, after
// duplicate address detection found every address free.
func TestKernelHostsCarryIPv6(t *testing.T) {
	for _, from := range world.VMs("fabrikam") {
		for _, to := range world.VMs("fabrikam") {
			if from.Name == to.Name {
				continue
			}
			if err := world.Ping(t.Context(), from.Name, to.CA6, patience); err != nil {
				t.Error(err)
			}
			id, err := world.Echo(t.Context(), from.Name, netip.AddrPortFrom(to.CA6, service.EchoPort), 0, 4000, patience)
			if err != nil || id.Name != to.Name {
				t.Errorf("%s to %s by UDP in fragments: %+v, %v", from.Name, to.CA6, id, err)
			}
		}
		out, err := world.Exec(t.Context(), from.Name, "ip", "-6", "addr", "show", "dadfailed")
		if err != nil || out != "" {
			t.Errorf("%s: a duplicate address: %s %v", from.Name, out, err)
		}
	}
}
