//go:build privileged && linux

package offload

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// Where a compartment sends back what came out of a tunnel, the kernel takes
// super-packets for tunnelled ones yet, and refuses to put them into another: user
// space does. A VM reaches itself by its external address here.
func TestTunnelledAgain(t *testing.T) {
	for _, e := range examples[:2] {
		t.Run(e.name, func(t *testing.T) {
			s := newSite(t, e, false)
			s.gw.serve()
			run(t, s.comp, "sysctl -qw net.ipv4.ip_forward=1")
			cmd := exec.Command("nsenter", "--net="+netns.Path(s.comp), "--", "nft", "-f", "-")
			cmd.Stdin = strings.NewReader(`table ip t {
	chain d { type nat hook prerouting priority -100; ip daddr 203.0.113.80 dnat to ` + s.hostVM.four + `; }
	chain s { type nat hook postrouting priority 100; masquerade; }
}`)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			run(t, s.vm, "ping -c 3 -i 0.01 -W30 203.0.113.80")
			wire := listen(t, s.wire, "to-pa0")
			transferVia(t, s.vm, s.vm, s.hostVM.four, "203.0.113.80", 4<<20)
			judge(t, wire.stop())
			st, err := s.gw.f.Status()
			must(t, err)
			t.Logf("punts: %v", st.Punts)
			if st.Punts[WhyShape] == 0 {
				t.Error("nothing was left to user space")
			}
		})
	}
}

// All that is left to user space arrives there in a form that it can read: merged
// tunnel packets cut again, a port's super-packets whole.
func TestSuperPacketsToUserSpace(t *testing.T) {
	for _, e := range examples {
		for _, kernelPeer := range []bool{false, true} {
			if kernelPeer && e.encap != hnv.VXLAN {
				continue
			}
			t.Run(fmt.Sprintf("%s,kernel peer %v", e.name, kernelPeer), func(t *testing.T) {
				s := newSite(t, e, kernelPeer)
				s.gw.serve()
				must(t, s.gw.sw.SetLayers(s.port, []vfp.Layer{{Name: "none", Priority: 500}})) // for user space alone
				wire := listen(t, s.wire, "to-pa0")
				s.pings()
				s.transfers(1 << 20)
				judge(t, wire.stop())
				st, err := s.gw.f.Status()
				must(t, err)
				t.Logf("punts: %v", st.Punts)
				if st.Punts[WhyPolicy] < 500 {
					t.Error("the packets were not left to user space")
				}
				// TCP would hide the loss of every super-packet, by small ones.
				if n := retransmitted(t, s.comp) + retransmitted(t, s.vm); n > 300 {
					t.Errorf("%d packets were sent again", n)
				}
				for _, r := range s.gw.readers {
					if c := r.ReadCounters(); c.Unsupported+c.Malformed+c.Truncated+c.Missed > 0 {
						t.Errorf("what user space could not read: %+v", c)
					}
				}
			})
		}
	}
}

// retransmitted tells how many TCP segments the namespace has sent again.
func retransmitted(t *testing.T, ns string) int {
	t.Helper()
	return snmp(t, ns, "Tcp:", "RetransSegs")
}

// snmp gives a counter of the namespace's stack.
func snmp(t *testing.T, ns, group, name string) int {
	t.Helper()
	var names []string
	for line := range strings.Lines(run(t, ns, "cat /proc/net/snmp")) {
		f := strings.Fields(line)
		if f[0] != group {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		return number(t, f[slices.Index(names, name)])
	}
	t.Fatalf("the kernel does not count %s %s", group, name)
	return 0
}

const noOffloads = "tso off gso off tx off"

// What came out of a tunnel leaves a compartment rightly by any NIC, though the
// kernel takes its super-packets for tunnelled ones yet.
func TestOutOfTheTunnelAndOn(t *testing.T) {
	for _, e := range examples {
		for _, offloads := range []string{noOffloads, "tx-gre-segmentation off tx-udp_tnl-segmentation off"} {
			if offloads != noOffloads && e.six {
				continue
			}
			t.Run(e.name+","+offloads, func(t *testing.T) {
				s := newSite(t, e, false)
				s.gw.serve()
				outside := nstest.New(t, "outside")
				run(t, s.comp, "ip link add ext type veth peer name out0 netns %s", outside)
				run(t, s.comp, "ethtool -K ext %s", offloads)
				run(t, s.comp, "ip addr add 203.0.113.1/24 dev ext")
				run(t, s.comp, "ip addr add 2001:db8::1/64 dev ext nodad")
				run(t, s.comp, "ip link set ext up")
				run(t, s.comp, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
				run(t, outside, "ip addr add 203.0.113.5/24 dev out0")
				run(t, outside, "ip addr add 2001:db8::5/64 dev out0 nodad")
				run(t, outside, "ip link set out0 up")
				run(t, outside, "ip route add default via 203.0.113.1")
				run(t, outside, "ip route add default via 2001:db8::1")
				wire := listen(t, outside, "out0")
				run(t, s.vm, "ping -c 3 -w 10 -i 0.1 203.0.113.5")
				run(t, s.vm, "ping -c 3 -w 10 -i 0.1 2001:db8::5")
				for _, a := range []string{"203.0.113.5", "2001:db8::5"} {
					transfer(t, s.vm, outside, a, 1<<20)
				}
				file := wire.stop()
				if offloads == noOffloads {
					judgePlain(t, file)
				}
				if n := retransmitted(t, s.vm); n > 300 {
					t.Errorf("%d packets were sent again", n)
				}
			})
		}
	}
}

// UDP super-packets are forwarded as TCP's are, or cut for user space.
func TestUDPSuperPackets(t *testing.T) {
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			s := newSite(t, e, false)
			s.gw.serve()
			run(t, s.comp, "ethtool -K wnv gso on") // off where the site has to do without user space
			wire := listen(t, s.wire, "to-pa0")
			for _, to := range []string{s.hostVM.four, s.hostVM.six} {
				s.datagrams(to)
			}
			judge(t, wire.stop())
			if n := len(dissect(t, wire.file, "udp.dstport==5003", "frame.number")); n != 2*datagrams {
				t.Errorf("%d datagrams on the wire", n)
			}
		})
	}
}

const datagrams = 20

// datagrams sends one super-packet from the compartment to the VM.
func (s *site) datagrams(to string) {
	s.t.Helper()
	const size = 1000
	var in net.PacketConn
	at := netip.AddrPortFrom(netip.MustParseAddr(to), 5003)
	must(s.t, netns.Do(netns.Path(s.vm), func() (err error) {
		in, err = net.ListenPacket("udp", at.String())
		return err
	}))
	defer in.Close()
	must(s.t, netns.Do(netns.Path(s.comp), func() error {
		out, err := net.Dial("udp", at.String())
		if err != nil {
			return err
		}
		defer out.Close()
		raw, err := out.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		var set error
		err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) })
		_, sent := out.Write(make([]byte, datagrams*size))
		return errors.Join(err, set, sent)
	}))
	must(s.t, in.SetReadDeadline(time.Now().Add(time.Minute)))
	b := make([]byte, 2*size)
	for i := range datagrams {
		if n, _, err := in.ReadFrom(b); err != nil || n != size {
			s.t.Fatalf("datagram %d: %d bytes, %v", i, n, err)
		}
	}
}
