//go:build privileged && linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nstest"
	"github.com/hnvgate/hnvgate/s2s"
)

// The test binary is gatewayd where it is started as such.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "--config" {
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

func ip(t *testing.T, ns, lines string) {
	t.Helper()
	for line := range strings.SplitSeq(lines, ";") {
		if out, err := exec.Command("ip", append([]string{"-n", ns}, strings.Fields(line)...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
}

// rig is a gateway whose uplink leads to one site for each tenant.
type rig struct {
	t           *testing.T
	ns, dir     string
	socket, log string
	instance    string
	http        *http.Client
	process     *exec.Cmd
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "gwd")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{t: t, ns: nstest.New(t, "gw"), dir: dir, socket: filepath.Join(dir, "api.sock"), log: filepath.Join(dir, "log"), instance: fmt.Sprintf("gwd%d", os.Getpid())}
	r.http = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", r.socket)
	}}}
	ip(t, r.ns, "link set lo up;link add pa0 type veth peer name pa1;addr add 192.168.1.1/24 dev pa0;link set pa0 up;link set pa1 up;"+
		"link add ext0 type veth peer name ext1;addr add 203.0.113.2/24 dev ext0;link set ext0 up")
	agent := filepath.Join(dir, "compartmentd")
	if out, err := exec.Command("go", "build", "-o", agent, "github.com/hnvgate/hnvgate/cmd/compartmentd").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	must(t, os.WriteFile(filepath.Join(dir, "gatewayd.yaml"), []byte(fmt.Sprintf(
		"instance: %s\nstateDir: %s/state\nsocket: %s\npaInterfaces: [pa0]\nlog: {level: debug}\npath: go\nuplinks: [{name: internet, interface: ext0}]\nagents: {binary: %s}\n",
		r.instance, dir, r.socket, agent)), 0o600))
	t.Cleanup(r.sweep)
	return r
}

// sweep ends what the test left.
func (r *rig) sweep() {
	r.kill()
	for _, tenant := range []string{"contoso", "fabrikam"} {
		pids, _ := exec.Command("ip", "netns", "pids", r.instance+"-"+tenant).Output() // of none there are none
		for pid := range strings.FieldsSeq(string(pids)) {
			_ = exec.Command("kill", "-9", pid).Run()
		}
		_ = exec.Command("ip", "netns", "delete", r.instance+"-"+tenant).Run()
	}
}

func (r *rig) start() {
	r.t.Helper()
	self, err := os.Executable()
	must(r.t, err)
	log, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(r.t, err)
	defer log.Close()
	r.process = exec.Command(self, "--config", filepath.Join(r.dir, "gatewayd.yaml"))
	r.process.Stderr = log
	must(r.t, netns.Do(netns.Path(r.ns), r.process.Start))
	r.await("gatewayd", func() error { return r.ask("GET", "/v1/version", "", nil) })
}

func (r *rig) kill() {
	if r.process != nil {
		_ = r.process.Process.Kill()
		_ = r.process.Wait()
		r.process = nil
	}
}

func (r *rig) ask(method, path, body string, into any) error {
	req, err := http.NewRequest(method, "http://gateway"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || into == nil && resp.StatusCode < 300 {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s", method, path, b)
	}
	return json.Unmarshal(b, into)
}

func (r *rig) await(what string, try func() error) {
	r.t.Helper()
	var err error
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	log, _ := os.ReadFile(r.log) // it helps, or it is not there
	r.t.Fatalf("%s: %v\n%s", what, err, log[max(0, len(log)-4000):])
}

// agent waits for the tenant's, with its tunnel up, and tells of it.
func (r *rig) agent(tenant string) v1.AgentStatus {
	r.t.Helper()
	var out v1.AgentStatus
	r.await(tenant+"'s tunnel", func() error {
		var s v1.TenantStatus
		if err := r.ask("GET", "/v1/tenants/"+tenant+"/status", "", &s); err != nil {
			return err
		}
		if s.Phase != v1.PhaseReady || s.Agent == nil || !s.Agent.Running || s.Tunnels == nil || s.Tunnels.Up != 1 {
			return fmt.Errorf("%s, agent %+v, tunnels %+v, %+v", s.Phase, s.Agent, s.Tunnels, s.Conditions)
		}
		out = *s.Agent
		return nil
	})
	return out
}

// Two tenants with the same addresses reach their sites by what the API was told.
// gatewayd and an agent are killed in turn, each adopts or is started again, and the
// tenant beside notices nothing. No key shows anywhere. Deleted, nothing is left.
func TestTunnelsByTheAPI(t *testing.T) {
	r := newRig(t)
	r.start()
	inet := nstest.New(t, "inet")
	ip(t, r.ns, "link set ext1 netns "+inet)
	ip(t, inet, "link add br0 type bridge;link set br0 up;link set ext1 master br0 up")
	tenants := []string{"contoso", "fabrikam"}
	doc := v1.Document{APIVersion: v1.APIVersion, ProviderAddresses: []v1.ProviderAddress{{Address: "192.168.1.1/24", Interface: "pa0"}}}
	keys, sites := map[string]s2s.Secret{}, map[string]string{}
	for i, n := range tenants {
		keys[n], sites[n] = s2s.NewPrivateKey(), nstest.New(t, n+"-site")
		ip(t, inet, fmt.Sprintf("link add s%d type veth peer name wan netns %s;link set s%d master br0 up", i, sites[n], i))
		ip(t, sites[n], fmt.Sprintf("link set lo up;addr add 203.0.113.%d/24 dev wan;link set wan up;addr add 172.16.1.1/32 dev lo", 100+i))
		vsid := uint32(5000 + 1000*i)
		doc.Tenants = append(doc.Tenants, v1.Tenant{Name: n, Encap: "nvgre",
			Subnets: []v1.Subnet{{VSID: vsid + 1, Prefixes: []string{"10.1.1.0/24"}}, {VSID: vsid, Prefixes: []string{"10.254.254.0/29"}}},
			Gateway: &v1.Gateway{VSID: vsid, Uplink: "internet", NAT: &v1.NAT{Pool: []string{fmt.Sprintf("203.0.113.%d", 10+i)}}}})
		doc.S2SConnections = append(doc.S2SConnections, v1.S2SConnection{Tenant: n, Name: "hq", Addresses: []string{"169.254.1.1/30"},
			Peers: []v1.S2SPeer{{Name: "hq", PublicKey: keys[n].Public().String(), Endpoint: fmt.Sprintf("203.0.113.%d:51820", 100+i),
				Prefixes: []string{"169.254.1.2/32", "172.16.1.0/24"}, Probe: &v1.S2SProbe{IntervalMS: 100}}}})
	}
	body, err := json.Marshal(doc)
	must(t, err)
	must(t, r.ask("POST", "/v1/apply", string(body), nil))
	for _, n := range tenants {
		r.connect(n, sites[n], keys[n])
	}
	before := map[string]v1.AgentStatus{}
	for _, n := range tenants {
		before[n] = r.agent(n)
		r.ping(sites[n])
	}

	r.kill()
	for _, n := range tenants {
		r.ping(sites[n])
	}
	r.start()
	for _, n := range tenants {
		if now := r.agent(n); now.PID != before[n].PID || !now.Adopted || now.Restarts != 0 {
			t.Errorf("%s: agent %+v, before the kill %+v", n, now, before[n])
		}
	}
	must(t, unix.Kill(before["contoso"].PID, unix.SIGKILL))
	r.await("contoso's next agent", func() error {
		if now := r.agent("contoso"); now.PID == before["contoso"].PID {
			return fmt.Errorf("it is still process %d", now.PID)
		}
		r.ping(sites["contoso"])
		return nil
	})
	if now := r.agent("fabrikam"); now.PID != before["fabrikam"].PID {
		t.Error("fabrikam's agent is another one")
	}
	r.noSecret(tenants)

	for _, n := range tenants {
		must(t, r.ask("DELETE", "/v1/tenants/"+n+"?cascade=true", "", nil))
	}
	r.await("the end of all", func() error {
		left, err := os.ReadDir(filepath.Join(r.dir, "agents"))
		if err != nil || len(left) > 0 {
			return fmt.Errorf("run folders %v, %v", left, err)
		}
		if out, err := exec.Command("ip", "netns", "list").CombinedOutput(); err != nil || bytes.Contains(out, []byte(r.instance)) {
			return fmt.Errorf("namespaces %s, %v", out, err)
		}
		return nil
	})
	// Whoever inherited it may not have buried it yet.
	if now, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", before["fabrikam"].PID)); err == nil && bytes.Contains(now, []byte("(compartmentd)")) && !bytes.Contains(now, []byte(") Z ")) {
		t.Error("fabrikam's agent still runs")
	}
}

// connect makes the site's end of the tenant's tunnel.
func (r *rig) connect(tenant, site string, key s2s.Secret) {
	r.t.Helper()
	var c v1.S2SPeerConfig
	must(r.t, r.ask("GET", "/v1/s2s-connections/"+tenant+"/hq/peers/hq/config", "", &c))
	gateway, err := s2s.ParseKey(c.PublicKey)
	must(r.t, err)
	e, err := s2s.New(s2s.Options{Namespace: netns.Path(site)})
	must(r.t, err)
	r.t.Cleanup(func() { _ = e.Close(false) })
	pfx := netip.MustParsePrefix
	_, err = e.Apply(context.Background(), s2s.Spec{Tunnels: []s2s.Tunnel{{Name: "gw", Interface: "gw", PrivateKey: key, ListenPort: 51820,
		Addresses: []netip.Prefix{pfx("169.254.1.2/30")},
		Peers:     []s2s.Peer{{Name: "gw", PublicKey: gateway, Endpoint: netip.MustParseAddrPort(c.Endpoint), Prefixes: []netip.Prefix{pfx("169.254.1.1/32"), pfx("10.1.1.0/24")}}}}}})
	must(r.t, err)
}

// ping asks the compartment from the site, through the tunnel.
func (r *rig) ping(site string) {
	r.t.Helper()
	r.await("an answer through the tunnel", func() error {
		out, err := exec.Command("ip", "netns", "exec", site, "ping", "-n", "-c", "1", "-W", "1", "169.254.1.1").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// noSecret looks for the tenants' private keys wherever they could be seen.
func (r *rig) noSecret(tenants []string) {
	r.t.Helper()
	places := map[string][]byte{}
	must(r.t, filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "compartmentd" {
			return err
		}
		places[path], err = os.ReadFile(path)
		return err
	}))
	for _, p := range []string{"/v1/export", "/v1/status", "/v1/s2s-connections", "/v1/tenants/contoso/s2s", "/v1/tenants/contoso/status"} {
		var answer json.RawMessage
		must(r.t, r.ask("GET", p, "", &answer))
		places[p] = answer
	}
	for _, n := range tenants {
		var key v1.S2SKey
		must(r.t, r.ask("POST", "/v1/s2s-connections/"+n+"/hq/export-key", "{}", &key))
		if _, err := s2s.ParseSecret(key.PrivateKey); err != nil {
			r.t.Fatal("the one way out gives no key")
		}
		for where, b := range places {
			if bytes.Contains(b, []byte(key.PrivateKey)) {
				r.t.Errorf("%s shows %s's private key", where, n)
			}
		}
	}
}
