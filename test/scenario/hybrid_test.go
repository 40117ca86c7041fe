//go:build privileged && linux

package scenario

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

// TestHybridForwarding uses the provider addresses of the gateway and of a host
// as any machine's: both answer pings and serve TCP, and have a VXLAN device of
// their own on the very port that a tenant's tunnels use. Neither the stack nor
// such a device has anything of a virtual subnet that gatewayd knows.
func TestHybridForwarding(t *testing.T) {
	machines := map[string]netip.Addr{"gw": world.Topology().Gateway.PA.Addr(), "h1": netip.MustParseAddr(provider(t, "h1"))}
	others := map[string]netip.Addr{"rogue": world.Topology().Rogue.PA.Addr(), "h4": netip.MustParseAddr(provider(t, "h4"))}
	for machine, pa := range machines {
		for from, addr := range others {
			if err := world.Ping(t.Context(), from, pa, patience); err != nil {
				t.Error(err)
			}
			id, err := world.Get(t.Context(), from, service80(pa), 0, patience)
			if err != nil || id.Name != machine || peerAddr(id) != addr.String() {
				t.Errorf("%s at %s is %q, which sees %q (%v)", from, pa, id.Name, id.Peer, err)
			}
		}
	}

	t.Run("a vxlan device of its own", func(t *testing.T) {
		n := 0
		for machine, pa := range machines {
			for from, addr := range others {
				n++
				vni, near, far := 70+n, fmt.Sprintf("10.77.%d.1", n), fmt.Sprintf("10.77.%d.2", n)
				device(t, machine, vni, pa, addr, near)
				device(t, from, vni, addr, pa, far)
				out, err := world.Exec(t.Context(), from, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "10", "-s", "1400", near)
				if err != nil {
					t.Errorf("VNI %d of %s: %v\n%s", vni, machine, err, out)
				}
				id, err := world.Get(t.Context(), from, service80(netip.MustParseAddr(near)), 0, patience)
				if err != nil || id.Name != machine || peerAddr(id) != far {
					t.Errorf("%q sees %q by VNI %d, want %s and %s (%v)", id.Name, id.Peer, vni, machine, far, err)
				}
			}
		}
	})

	t.Run("known virtual subnets", func(t *testing.T) {
		for machine, pa := range machines {
			for _, x := range world.Topology().Tenants {
				for _, s := range x.Subnets {
					device(t, machine, int(s.VSID.Uint32()), pa, netip.MustParseAddr("192.168.1.254"), "")
				}
			}
		}
		inner := func(name, marker string) []byte {
			v := vm(t, name)
			return datagram{srcMAC: v.MAC, dstMAC: hnv.RouterMAC, src: v.CA.String(), dst: internet().String(), ttl: 64, marker: marker}.bytes(t)
		}
		file := capturing(t, "fab", "p-gw", "icmp", func() {
			for _, x := range world.Topology().Tenants {
				p := x.Name[:1]
				for _, to := range []netip.Addr{vm(t, p+"12").CA, vm(t, p+"13").CA, internet()} {
					if err := world.Ping(t.Context(), p+"11", to, patience); err != nil {
						t.Error(err)
					}
				}
				// By either encapsulation, also the one that is not the tenant's.
				for _, e := range []hnv.Encap{hnv.NVGRE, hnv.VXLAN} {
					for _, s := range x.Subnets {
						inject(t, "rogue", "pa0", outer{e, others["rogue"].String(), s.VSID.Uint32()}.around(t, inner(p+"11", "KNOWN")))
					}
				}
			}
			// What nobody claims is the stack's, which has no GRE.
			inject(t, "rogue", "pa0", outer{hnv.NVGRE, others["rogue"].String(), 77777}.around(t, inner("c11", "FOREIGN")))
			// What was sent before has passed when this has.
			if err := world.Ping(t.Context(), "rogue", machines["gw"], patience); err != nil {
				t.Error(err)
			}
		})
		rows := dissect(t, file, "icmp.type == 3", "ip.src", "ip.dst", "icmp.code", "gre.key")
		const protocolUnreachable = "2"
		if len(rows) != 1 || rows[0][2] != protocolUnreachable || !strings.HasPrefix(rows[0][3], fmt.Sprintf("%#08x", 77777<<8|0x2a)) {
			t.Errorf("the stack answers %v, want one protocol unreachable for VSID 77777", rows)
		}
		for machine := range machines {
			for _, x := range world.Topology().Tenants {
				for _, s := range x.Subnets {
					if n := received(t, machine, fmt.Sprintf("vx%s", s.VSID)); n != 0 {
						t.Errorf("%s's stack has %d packets of VSID %s", machine, n, s.VSID)
					}
				}
			}
		}
	})
}

// device gives the machine a vxlan device on VXLAN's port, until the test is over.
func device(t *testing.T, machine string, vni int, local, remote netip.Addr, addr string) {
	t.Helper()
	name := fmt.Sprintf("vx%d", vni)
	in(t, machine, "ip", "link", "add", name, "type", "vxlan", "id", fmt.Sprint(vni), "local", local.String(), "remote", remote.String(), "dstport", "4789")
	t.Cleanup(func() {
		if _, err := world.Exec(later(t), machine, "ip", "link", "del", name); err != nil {
			t.Error(err)
		}
	})
	if addr != "" {
		in(t, machine, "ip", "addr", "add", addr+"/24", "dev", name)
	}
	in(t, machine, "ip", "link", "set", name, "up")
}

// received is how many packets an interface of the machine got.
func received(t *testing.T, machine, iface string) uint64 {
	t.Helper()
	var links []struct {
		Stats64 struct{ RX struct{ Packets uint64 } }
	}
	if err := json.Unmarshal([]byte(in(t, machine, "ip", "-s", "-j", "link", "show", "dev", iface)), &links); err != nil || len(links) != 1 {
		t.Fatalf("%s of %s: %v", iface, machine, err)
	}
	return links[0].Stats64.RX.Packets
}
