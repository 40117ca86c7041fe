//go:build privileged && linux

package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/test/lab"
)

// TestDHCP has, in each tenant, a VM that knows nothing of its address, a server
// that the virtual subnet is configured with, and another that nobody asked for,
// with the same addresses in both. The client gets its lease from the server; the
// question reaches nobody else, and forged answers do not reach the client; the
// leased address is learned, everybody gets there, and it is forgotten when it is
// given back. Without a configured server, the other one is heard.
func TestDHCP(t *testing.T) {
	var clients []lab.VM
	for _, p := range []string{"c", "f"} {
		clients = append(clients, vm(t, p+"13"))
	}
	learners(t, clients...)
	guard := func(flags ...string) {
		for _, v := range clients {
			for _, m := range gatewayds {
				ctl(t, m, append([]string{"subnet", "set", v.Tenant, v.VSID.String()}, flags...)...)
			}
		}
		settled(t, gatewayds...)
	}
	t.Cleanup(func() {
		for _, v := range clients {
			for _, m := range gatewayds {
				if _, err := world.Ctl(later(t), m, "subnet", "set", v.Tenant, v.VSID.String(), "--no-dhcp"); err != nil {
					t.Error(err)
				}
			}
		}
	})
	guard("--dhcp", vm(t, "c11").CA.String())

	servers := map[string]*lab.Process{}
	for _, v := range clients {
		p := v.Name[:1]
		servers[v.Name] = dhcpServer(t, vm(t, p+"11"), 50)
		dhcpServer(t, vm(t, p+"12"), 200)
	}
	pa := provider(t, "h2")
	leases := map[string]netip.Addr{}
	running := map[string]*lab.Process{}
	file := capturing(t, "fab", "p-h2", "src host "+pa, func() {
		for _, v := range clients {
			running[v.Name] = dhcpClient(t, v, "-R")
		}
		for _, v := range clients {
			leases[v.Name] = lease(t, v, running[v.Name])
		}
	})
	for _, v := range clients {
		if a := leases[v.Name].As4(); a[3] < 50 || a[3] > 59 {
			t.Errorf("%s has %s, which is none of its server's addresses", v.Name, leases[v.Name])
		}
		learned(t, v, leases[v.Name], pa, gatewayds...)
	}
	asked := map[string]int{}
	for _, row := range dissect(t, file, "udp.srcport == 68 && udp.dstport == 67", "ip.dst") {
		asked[row[0]]++
	}
	for dst := range asked {
		if dst != provider(t, "h1")+",255.255.255.255" {
			t.Errorf("DHCP questions go to %v, want all to go to the server's host", asked)
		}
	}
	if len(asked) == 0 {
		t.Error("no question on the fabric: the test tests nothing")
	}
	// The independent hosts are told by a controller.
	for _, v := range clients {
		for _, h := range independent(v) {
			r := lab.Record{VSID: v.VSID, CA: leases[v.Name], MAC: v.MAC, PA: netip.MustParseAddr(pa)}
			if err := world.SetRecord(t.Context(), h, v.Tenant, r); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := world.RemoveRecord(later(t), h, v.Tenant, r); err != nil {
					t.Error(err)
				}
			})
		}
		p := v.Name[:1]
		for _, from := range []string{p + "11", p + "12", p + "21", p + "22"} {
			if err := world.Ping(t.Context(), from, leases[v.Name], patience); err != nil {
				t.Error(err)
			}
			if id, err := world.Get(t.Context(), from, service80(leases[v.Name]), 0, patience); err != nil || id.Name != v.Name {
				t.Errorf("%s at %s is %q (%v)", from, leases[v.Name], id.Name, err)
			}
		}
		id, err := world.Get(t.Context(), v.Name, service80(internet()), 0, patience)
		if want := tenant(t, v.Tenant).External.String(); err != nil || peerAddr(id) != want {
			t.Errorf("the Internet sees %s as %q, want %s (%v)", v.Name, id.Peer, want, err)
		}
	}

	t.Run("forged answers", func(t *testing.T) {
		for _, v := range clients {
			rogue := vm(t, v.Name[:1]+"12")
			t.Cleanup(func() {
				if err := world.Migrate(later(t), rogue.Name, rogue.Host); err != nil {
					t.Error(err)
				}
			})
			for _, host := range []string{rogue.Host, "h2"} { // the second one is the client's
				if err := world.Migrate(t.Context(), rogue.Name, host); err != nil {
					t.Fatal(err)
				}
				heard := capturing(t, v.Name, "eth0", "udp port 68", func() {
					for _, to := range []netip.Addr{{}, leases[v.Name]} {
						countsDrop(t, "h2", "dhcp-rogue", func() { inject(t, rogue.Name, "eth0", forgedOffer(t, rogue, v, to)) })
					}
					// What was sent before has passed when this has.
					if err := world.Ping(t.Context(), rogue.Name, leases[v.Name], patience); err != nil {
						t.Error(err)
					}
				})
				if rows := dissect(t, heard, "ip.src == "+rogue.CA.String(), "ip.src", "ip.dst", "eth.src"); len(rows) != 0 {
					t.Errorf("%s hears what %s on %s forged: %v", v.Name, rogue.Name, host, rows)
				}
			}
		}
	})

	t.Run("given back", func(t *testing.T) {
		for _, v := range clients {
			end(t, running[v.Name])
		}
		for _, v := range clients {
			learned(t, v, leases[v.Name], "", gatewayds...)
		}
	})

	t.Run("no server configured", func(t *testing.T) {
		guard("--no-dhcp")
		for _, v := range clients {
			end(t, servers[v.Name])
			c := dhcpClient(t, v, "-B")
			if a := lease(t, v, c).As4(); a[3] < 200 || a[3] > 209 {
				t.Errorf("%s has 10.1.1.%d: the other server cannot be heard, and all of this tests nothing", v.Name, a[3])
			}
		}
	})
}

// dhcpServer starts a server on the VM that leases ten addresses of its subnet,
// from the last byte on, until the test is over.
func dhcpServer(t *testing.T, v lab.VM, from int) *lab.Process {
	t.Helper()
	base := filepath.Join(world.Dir(), v.Name+"-udhcpd")
	config := fmt.Sprintf("start 10.1.1.%d\nend 10.1.1.%d\ninterface eth0\nmax_leases 10\nlease_file %s.leases\npidfile %s.pid\n"+
		"option subnet 255.255.255.0\noption router 10.1.1.1\noption lease 60\n", from, from+9, base, base)
	if err := os.WriteFile(base+".conf", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(base+".leases", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return daemon(t, v.Name, "udhcpd", "busybox", "udhcpd", "-f", "-a", "100", base+".conf")
}

// dhcpClient starts a client on the VM, which does what it is told to with the
// VM's NIC, until the test is over.
func dhcpClient(t *testing.T, v lab.VM, flags ...string) *lab.Process {
	t.Helper()
	script := filepath.Join(world.Dir(), v.Name+"-udhcpc")
	const text = `#!/bin/sh
case $1 in
deconfig) ip -4 addr flush dev $interface ;;
bound|renew) ip addr replace $ip/24 dev $interface && ip route replace default via $router && echo leased $ip ;;
esac
`
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return daemon(t, v.Name, "udhcpc", append([]string{"busybox", "udhcpc", "-f", "-T", "1", "-t", "60", "-i", "eth0", "-s", script}, flags...)...)
}

// daemon starts a program on the machine, until the test is over.
func daemon(t *testing.T, machine, name string, argv ...string) *lab.Process {
	t.Helper()
	p, err := world.Start(machine, name+"-"+machine+"-"+fmt.Sprint(time.Now().UnixNano()), argv...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, p) })
	return p
}

// end asks the program to end, and waits for it.
func end(t *testing.T, p *lab.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(later(t), patience)
	defer cancel()
	if err := p.Kill(ctx, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// lease waits until the client has an address.
func lease(t *testing.T, v lab.VM, client *lab.Process) (ca netip.Addr) {
	t.Helper()
	eventually(t, "a lease for "+v.Name, func() (err error) {
		_, text, ok := strings.Cut(client.Output(), "leased ")
		if text, _, _ = strings.Cut(text, "\n"); !ok {
			return fmt.Errorf("it has none: %s", client.Output())
		}
		ca, err = netip.ParseAddr(text)
		return err
	})
	return ca
}

// forgedOffer is a DHCP answer as a frame: to everybody, or to the client alone
// where it has the address.
func forgedOffer(t *testing.T, server, client lab.VM, at netip.Addr) []byte {
	t.Helper()
	from, chaddr := server.MAC.Bytes(), client.MAC.Bytes()
	eth := &layers.Ethernet{SrcMAC: from[:], DstMAC: chaddr[:], EthernetType: layers.EthernetTypeIPv4}
	if !at.IsValid() {
		eth.DstMAC, at = layers.EthernetBroadcast, netip.MustParseAddr("255.255.255.255")
	}
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: server.CA.AsSlice(), DstIP: at.AsSlice()}
	udp := &layers.UDP{SrcPort: 67, DstPort: 68}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return serialize(t, eth, ip, udp, &layers.DHCPv4{
		Operation: layers.DHCPOpReply, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6, ClientHWAddr: chaddr[:], YourClientIP: client.CA.AsSlice(),
		Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(layers.DHCPMsgTypeOffer)})},
	})
}
