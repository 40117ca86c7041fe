//go:build privileged && linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/compartments/agent"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/agentapi"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nstest"
	"github.com/hnvgate/hnvgate/internal/seal"
	"github.com/hnvgate/hnvgate/s2s"
)

// The test binary is the program itself where it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "--dir" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ip(t *testing.T, ns, line string) {
	t.Helper()
	if out, err := exec.Command("ip", append([]string{"-n", ns}, strings.Fields(line)...)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", line, err, out)
	}
}

// tenant is a compartment with an agent, and its site.
type tenant struct {
	comp       agent.Compartment
	site       string
	desired    agentapi.Desired
	secret     s2s.Secret
	connection net.Conn
}

// newTenant makes both; every tenant has the same addresses.
func newTenant(t *testing.T, name string) *tenant {
	t.Helper()
	n, err := hnv.ParseName(name)
	must(t, err)
	comp, site := nstest.New(t, name), nstest.New(t, name+"-site")
	ip(t, comp, "link add ext type veth peer name wan netns "+site)
	for ns, lines := range map[string]string{
		comp: "link set lo up;addr add 203.0.113.10/24 dev ext;link set ext up;addr add 10.1.1.1/32 dev lo",
		site: "link set lo up;addr add 203.0.113.20/24 dev wan;link set wan up;addr add 192.168.50.1/32 dev lo",
	} {
		for line := range strings.SplitSeq(lines, ";") {
			ip(t, ns, line)
		}
	}
	tn := &tenant{comp: agent.Compartment{Tenant: n, Namespace: netns.Path(comp)}, site: site, secret: s2s.NewPrivateKey()}
	theirs := s2s.NewPrivateKey()
	end := func(own s2s.Secret, addr string, peer s2s.Key, endpoint, far, behind string) s2s.Spec {
		return s2s.Spec{Tunnels: []s2s.Tunnel{{Name: "hq", Interface: "s2s0", PrivateKey: own, ListenPort: 51820,
			Addresses: []netip.Prefix{netip.MustParsePrefix(addr)},
			Peers: []s2s.Peer{{Name: "peer", PublicKey: peer, Endpoint: netip.MustParseAddrPort(endpoint),
				Prefixes: []netip.Prefix{netip.MustParsePrefix(far), netip.MustParsePrefix(behind)}}}}}}
	}
	raw, err := s2s.Encode(end(tn.secret, "169.254.1.1/30", theirs.Public(), "203.0.113.20:51820", "169.254.1.2/32", "192.168.50.0/24"))
	must(t, err)
	tn.desired = agentapi.Desired{Parts: map[string]json.RawMessage{agentapi.S2S: raw}}
	e, err := s2s.New(s2s.Options{Namespace: netns.Path(site)})
	must(t, err)
	t.Cleanup(func() { _ = e.Close(false) })
	_, err = e.Apply(context.Background(), end(theirs, "169.254.1.2/30", tn.secret.Public(), "203.0.113.10:51820", "169.254.1.1/32", "10.1.1.0/24"))
	must(t, err)
	tn.serve(t)
	return tn
}

// serve answers at the site with the tenant's name and what it was sent.
func (tn *tenant) serve(t *testing.T) {
	t.Helper()
	var l net.Listener
	must(t, netns.Do(netns.Path(tn.site), func() (err error) {
		l, err = net.Listen("tcp", "192.168.50.1:7")
		return err
	}))
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, tn.comp.Tenant.String())
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

func (tn *tenant) connect(t *testing.T) {
	t.Helper()
	d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: net.ParseIP("10.1.1.1")}}
	must(t, netns.Do(tn.comp.Namespace, func() (err error) {
		tn.connection, err = d.Dial("tcp", "192.168.50.1:7")
		return err
	}))
	t.Cleanup(func() { _ = tn.connection.Close() })
	must(t, tn.hear(tn.comp.Tenant.String()))
}

func (tn *tenant) say(word string) error {
	if _, err := io.WriteString(tn.connection, word); err != nil {
		return err
	}
	return tn.hear(word)
}

func (tn *tenant) hear(word string) error {
	_ = tn.connection.SetReadDeadline(time.Now().Add(time.Minute))
	b := make([]byte, len(word))
	if _, err := io.ReadFull(tn.connection, b); err != nil {
		return err
	}
	if string(b) != word {
		return fmt.Errorf("heard %q, not %q", b, word)
	}
	return nil
}

// Two tenants with the same addresses have an agent each, confined. Killed, an
// agent comes up by itself, and connections through its tunnel go on; the other
// tenant notices nothing.
func TestAgentsCarryTunnels(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	run, err := os.MkdirTemp("", "agents")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	s, err := agent.New(agent.Options{Binary: self, RunDir: run, Key: seal.NewKey(), BackoffMin: 20 * time.Millisecond})
	must(t, err)
	t.Cleanup(s.Close)
	ctx := context.Background()
	tenants := []*tenant{newTenant(t, "contoso"), newTenant(t, "fabrikam")}
	pids := make([]int, 2)
	for i, tn := range tenants {
		st, err := s.Apply(ctx, tn.comp, tn.desired)
		must(t, err)
		t.Cleanup(func() { _ = s.Remove(ctx, tn.comp) })
		pids[i] = st.PID
		tn.connect(t)
		checkConfined(t, st)
		checkSecrets(t, filepath.Join(run, tn.comp.Tenant.String()), st, tn.secret)
	}
	must(t, unix.Kill(pids[0], unix.SIGKILL))
	for _, tn := range tenants {
		must(t, tn.say("after the kill"))
	}
	st, err := s.State(ctx, tenants[0].comp.Tenant)
	for end := time.Now().Add(time.Minute); (err != nil || st.PID == pids[0]) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		st, err = s.State(ctx, tenants[0].comp.Tenant)
	}
	must(t, err)
	checkConfined(t, st)
	var tunnels s2s.State
	must(t, json.Unmarshal(st.Parts[agentapi.S2S], &tunnels))
	if len(tunnels.Tunnels) != 1 || len(tunnels.Tunnels[0].Peers) != 1 || tunnels.Tunnels[0].Peers[0].LastHandshake.IsZero() {
		t.Errorf("state is %s", st.Parts[agentapi.S2S])
	}
	if other, err := s.State(ctx, tenants[1].comp.Tenant); err != nil || other.PID != pids[1] {
		t.Errorf("the other tenant's agent is %d, was %d: %v", other.PID, pids[1], err)
	}

	// An upgrade of one tenant: its connections go on.
	must(t, s.Replace(ctx, tenants[0].comp.Tenant))
	must(t, tenants[0].say("after the upgrade"))

	// What is refused is refused whole, by the field.
	bad := agentapi.Desired{Parts: map[string]json.RawMessage{agentapi.S2S: json.RawMessage(`{"Tunnels":[{"Name":"hq","Interface":"s2s0"}],"Secrets":{}}`)}}
	if _, err := s.Apply(ctx, tenants[1].comp, bad); err == nil || !strings.Contains(err.Error(), `tunnel "hq": private key: not set`) {
		t.Errorf("got %v", err)
	}
	must(t, tenants[1].say("still there"))

	// Removed, the tunnel is gone, and nothing of it is left in the kernel.
	must(t, s.Remove(ctx, tenants[1].comp))
	out, err := exec.Command("ip", "-n", filepath.Base(tenants[1].comp.Namespace), "-o", "link").CombinedOutput()
	must(t, err)
	if bytes.Contains(out, []byte("s2s0")) {
		t.Errorf("links: %s", out)
	}
	must(t, tenants[0].say("to the end"))
}

// checkConfined looks at what the kernel says of the process.
func checkConfined(t *testing.T, st agentapi.State) {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/status")
	must(t, err)
	caps := fmt.Sprintf("%016x", 1<<unix.CAP_NET_ADMIN|1<<unix.CAP_NET_RAW|1<<unix.CAP_NET_BIND_SERVICE)
	for _, line := range []string{"CapPrm:\t" + caps, "CapEff:\t" + caps, "CapBnd:\t" + caps, "CapInh:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !bytes.Contains(b, []byte(line+"\n")) {
			t.Errorf("the process has not %q:\n%s", line, b)
		}
	}
	if !strings.Contains(strings.Join(st.Confined, " "), "seccomp") {
		t.Errorf("it says it is confined by %v", st.Confined)
	}
}

// checkSecrets looks for a key wherever it could be seen.
func checkSecrets(t *testing.T, dir string, st agentapi.State, secret s2s.Secret) {
	t.Helper()
	state, err := json.Marshal(st)
	must(t, err)
	places := map[string][]byte{"state": state}
	for _, f := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/" + f)
		must(t, err)
		places[f] = b
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil && !errors.Is(err, unix.ENXIO) { // the socket
			t.Fatal(err)
		}
		places[e.Name()] = b
	}
	if len(places[agentapi.DesiredName]) == 0 || len(places[agentapi.LogName]) == 0 {
		t.Error("there is no copy of the desired state, or no log")
	}
	for where, b := range places {
		if bytes.Contains(b, []byte(secret.Reveal())) {
			t.Errorf("%s holds a private key", where)
		}
	}
}
