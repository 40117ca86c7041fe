//go:build privileged && linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
)

const birdConf = `
log stderr all;
router id 10.0.0.2;
protocol device {}
protocol static { ipv4; route 172.16.0.0/24 blackhole; }
protocol bgp hub {
  local 10.0.0.2 as 65002; neighbor 10.0.0.1 as 65000; password "k3y";
  hold time 9; connect retry time 1; connect delay time 1; error wait time 1, 2;
  graceful restart on; graceful restart time 60;
  bfd on;
  ipv4 { import all; export where source = RTS_STATIC; };
}
protocol bfd { interface "wan" { interval 100 ms; multiplier 5; }; }
`

// soon waits for what must come.
func soon(t *testing.T, what string, ok func() (bool, string)) {
	t.Helper()
	saw := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(30 * time.Millisecond) {
		done := false
		if done, saw = ok(); done {
			return
		}
	}
	t.Fatalf("%s: not in time; last seen: %s", what, saw)
}

// A confined agent speaks BGP with BIRD, by MD5 and BFD; killed, it comes up by
// itself and its routes were never gone.
func TestAgentSpeaksBGP(t *testing.T) {
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
	ip(t, comp, "link add ext type veth peer name wan netns "+site)
	for ns, lines := range map[string]string{
		comp: "link set lo up;addr add 10.0.0.1/30 dev ext;link set ext up", site: "link set lo up;addr add 10.0.0.2/30 dev wan;link set wan up",
	} {
		for line := range strings.SplitSeq(lines, ";") {
			ip(t, ns, line)
		}
	}
	conf := filepath.Join(run, "bird.conf")
	must(t, os.WriteFile(conf, []byte(birdConf), 0o600))
	neighbour := exec.Command("bird", "-f", "-c", conf, "-s", filepath.Join(run, "bird.ctl"))
	must(t, netns.Do(netns.Path(site), neighbour.Start))
	t.Cleanup(func() {
		_ = neighbour.Process.Kill()
		_ = neighbour.Wait()
	})

	spec := bgp.Spec{ASN: 65000, RouterID: netip.MustParseAddr("10.0.0.1"), Networks: []bgp.Network{{Prefix: netip.MustParsePrefix("10.1.1.0/24")}}, Peers: []bgp.Peer{{
		Name: "hq", Address: netip.MustParseAddr("10.0.0.2"), ASN: 65002, Password: "k3y", Hold: 9 * time.Second, ConnectRetry: time.Second,
		BFD: &bgp.BFD{Interval: 100 * time.Millisecond, Multiplier: 5}, GracefulRestart: &bgp.GracefulRestart{},
	}}}
	raw, err := json.Marshal(spec)
	must(t, err)
	ctx := context.Background()
	c := agent.Compartment{Tenant: name, Namespace: netns.Path(comp)}
	st, err := s.Apply(ctx, c, agentapi.Desired{Parts: map[string]json.RawMessage{agentapi.BGP: raw}})
	must(t, err)
	t.Cleanup(func() { _ = s.Remove(ctx, c) })
	route := func() string {
		out, err := exec.Command("ip", "-n", comp, "route", "show", "proto", "203").CombinedOutput()
		must(t, err)
		return string(out)
	}
	up := func() {
		t.Helper()
		soon(t, "session with BFD", func() (bool, string) {
			var speaks bgp.State
			if st, err = s.State(ctx, name); err != nil {
				return false, err.Error()
			}
			must(t, json.Unmarshal(st.Parts[agentapi.BGP], &speaks))
			ok := len(speaks.Peers) == 1 && speaks.Peers[0].Session == "established" && speaks.Peers[0].BFD == "up" && speaks.FIB.Installed == 1 && !speaks.Restarting
			return ok, string(st.Parts[agentapi.BGP])
		})
	}
	up()
	checkConfined(t, st)
	if r := route(); !strings.Contains(r, "172.16.0.0/24 via 10.0.0.2 dev ext") {
		t.Errorf("routes: %s", r)
	}
	dir := filepath.Join(run, "contoso")
	for _, f := range []string{agentapi.DesiredName, agentapi.LogName} {
		b, err := os.ReadFile(filepath.Join(dir, f))
		must(t, err)
		if bytes.Contains(b, []byte("k3y")) {
			t.Errorf("%s shows the key", f)
		}
	}

	pid := st.PID
	must(t, unix.Kill(pid, unix.SIGKILL))
	soon(t, "another agent", func() (bool, string) {
		if r := route(); !strings.Contains(r, "172.16.0.0/24 via 10.0.0.2") {
			t.Fatalf("a route went with the agent: %q", r)
		}
		st, err := s.State(ctx, name)
		return err == nil && st.PID != pid, ""
	})
	up()

	if _, err := s.Apply(ctx, c, agentapi.Desired{Parts: map[string]json.RawMessage{agentapi.BGP: json.RawMessage(`{"asn":23456,"routerID":"10.0.0.1"}`)}}); err == nil || !strings.Contains(err.Error(), "asn: 23456") {
		t.Errorf("AS 23456: %v", err)
	}
	_, err = s.Apply(ctx, c, agentapi.Desired{})
	must(t, err)
	soon(t, "end of routes", func() (bool, string) { r := route(); return r == "", r })
}
