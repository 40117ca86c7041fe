//go:build privileged && linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/compartments/agent"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/agentapi"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nstest"
	"github.com/hnvgate/hnvgate/internal/seal"
	"github.com/hnvgate/hnvgate/s2s"
)

const siteBird = `
log stderr all;
router id 169.254.1.2;
protocol device {}
protocol kernel k4 { ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel k6 { ipv6 { import none; export where source = RTS_BGP; }; }
protocol static s4 { ipv4; route 192.168.50.0/24 blackhole; }
protocol static s6 { ipv6; route fd50::/64 blackhole; }
protocol bgp hub4 {
  local 169.254.1.2 as 65002; neighbor 169.254.1.1 as 65000;
  connect retry time 1; connect delay time 1; error wait time 1, 2;
  graceful restart on; graceful restart time 60;
  ipv4 { import all; export where source = RTS_STATIC; };
}
protocol bgp hub6 {
  local fd10::2 as 65002; neighbor fd10::1 as 65000;
  connect retry time 1; connect delay time 1; error wait time 1, 2;
  graceful restart on; graceful restart time 60;
  ipv6 { import all; export where source = RTS_STATIC; };
}
`

// process starts a program in the namespace, and ends it with the test.
func process(t *testing.T, ns, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "LOG_LEVEL=silent", "WG_PROCESS_FOREGROUND=1")
	must(t, netns.Do(netns.Path(ns), cmd.Start))
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

// One agent has a tunnel and speaks BGP through it with a site that has neither of
// ours: wireguard-go and BIRD of Debian. What BGP says is behind the tunnel is
// reached, by both address families, and still is while the agent is killed and
// comes back.
func TestBGPThroughATunnel(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	run, err := os.MkdirTemp("", "agents")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	s, err := agent.New(agent.Options{Binary: self, RunDir: run, Key: seal.NewKey(), BackoffMin: 20 * time.Millisecond})
	must(t, err)
	t.Cleanup(s.Close)
	name, err := hnv.ParseName("contoso")
	must(t, err)
	comp, site := nstest.New(t, "contoso"), nstest.New(t, "contoso-site")
	ours, theirs := s2s.NewPrivateKey(), s2s.NewPrivateKey()

	link := fmt.Sprintf("dwb%x", os.Getpid())
	process(t, site, "wireguard-go", "-f", link)
	control := "/var/run/wireguard/" + link + ".sock"
	t.Cleanup(func() { _ = os.Remove(control) })
	soon(t, "wireguard-go", func() (bool, string) { _, err := os.Stat(control); return err == nil, fmt.Sprint(err) })
	wg := exec.Command("ip", "netns", "exec", site, "wg", "set", link, "listen-port", "51820", "private-key", "/dev/stdin",
		"peer", ours.Public().String(), "allowed-ips", "0.0.0.0/0,::/0")
	wg.Stdin = strings.NewReader(theirs.Reveal())
	if out, err := wg.CombinedOutput(); err != nil {
		t.Fatalf("wg: %v: %s", err, out)
	}
	ip(t, comp, "link add ext type veth peer name wan netns "+site)
	for _, x := range []struct{ ns, lines string }{
		{comp, "link set lo up;addr add 203.0.113.10/24 dev ext;link set ext up;addr add 10.1.1.1/32 dev lo;addr add fd01::1/128 dev lo"},
		{site, "link set lo up;addr add 203.0.113.20/24 dev wan;link set wan up;addr add 192.168.50.1/32 dev lo;addr add fd50::1/128 dev lo;" +
			"addr add 169.254.1.2/30 dev " + link + ";addr add fd10::2/126 dev " + link + " nodad;link set " + link + " mtu 1420 up"},
	} {
		for line := range strings.SplitSeq(x.lines, ";") {
			ip(t, x.ns, line)
		}
	}
	conf := filepath.Join(run, "bird.conf")
	must(t, os.WriteFile(conf, []byte(siteBird), 0o600))
	process(t, site, "bird", "-f", "-c", conf, "-s", filepath.Join(run, "bird.ctl"))

	pfx, addr := netip.MustParsePrefix, netip.MustParseAddr
	tunnel, err := s2s.Encode(s2s.Spec{Tunnels: []s2s.Tunnel{{Name: "hq", Interface: "s2s0", PrivateKey: ours, ListenPort: 51820,
		Addresses: []netip.Prefix{pfx("169.254.1.1/30"), pfx("fd10::1/126")},
		Peers: []s2s.Peer{{Name: "hq", PublicKey: theirs.Public(), Endpoint: netip.MustParseAddrPort("203.0.113.20:51820"), FromBGP: true,
			Prefixes: []netip.Prefix{pfx("169.254.1.2/32"), pfx("fd10::2/128")}}}}}})
	must(t, err)
	peer := func(name, a string) bgp.Peer {
		return bgp.Peer{Name: name, Address: addr(a), ASN: 65002, ConnectRetry: time.Second, GracefulRestart: &bgp.GracefulRestart{}}
	}
	speaks, err := json.Marshal(bgp.Spec{ASN: 65000, RouterID: addr("10.1.1.1"), Peers: []bgp.Peer{peer("hq4", "169.254.1.2"), peer("hq6", "fd10::2")},
		Networks: []bgp.Network{{Prefix: pfx("10.1.1.0/24")}, {Prefix: pfx("fd01::/64")}}})
	must(t, err)
	ctx := context.Background()
	c := agent.Compartment{Tenant: name, Namespace: netns.Path(comp)}
	st, err := s.Apply(ctx, c, agentapi.Desired{Parts: map[string]json.RawMessage{agentapi.S2S: tunnel, agentapi.BGP: speaks}})
	must(t, err)
	t.Cleanup(func() { _ = s.Remove(ctx, c) })
	reach := func() (bool, string) {
		for from, to := range map[string]string{"10.1.1.1": "192.168.50.1", "fd01::1": "fd50::1"} {
			if out, err := exec.Command("ip", "netns", "exec", comp, "ping", "-n", "-c", "1", "-W", "1", "-I", from, to).CombinedOutput(); err != nil {
				return false, string(out)
			}
		}
		return true, ""
	}
	soon(t, "what BGP says", reach)

	must(t, unix.Kill(st.PID, unix.SIGKILL))
	soon(t, "what BGP says, with another agent", func() (bool, string) {
		out, err := exec.Command("ip", "-n", comp, "route", "show", "proto", "203").CombinedOutput()
		must(t, err)
		if !strings.Contains(string(out), "192.168.50.0/24") {
			t.Fatalf("the route went with the agent: %q", out)
		}
		now, err := s.State(ctx, name)
		if err != nil || now.PID == st.PID {
			return false, fmt.Sprint(err)
		}
		return reach()
	})

	// Replaced, it ends its sessions so that BIRD waits for the next one.
	up := func() (bool, string) {
		out, err := exec.Command("birdc", "-s", filepath.Join(run, "bird.ctl"), "show", "protocols", "all").CombinedOutput()
		return err == nil && strings.Count(string(out), "Established") == 4, string(out) // in a table and a list
	}
	soon(t, "the sessions", up)
	must(t, s.Replace(ctx, name))
	if ok, out := reach(); !ok {
		t.Errorf("after the replacement: %s", out)
	}
	soon(t, "the sessions, with another agent", up)
	if _, out := up(); strings.Contains(out, "Received:") {
		t.Errorf("BIRD was told something: %s", out)
	}
}
