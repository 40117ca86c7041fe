package lab

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"hnvlab": true, "t12345": true,
		"": false, "1t": false, "a-b": false, "Lab": false, "../x": false, "averylongnameofalabisbad": false,
	} {
		if _, err := New(name, Options{}); (err == nil) != ok {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

// TestDefaultTopologyOverlaps holds what the isolation scenarios rest on: each
// tenant has the same prefixes, customer addresses and MAC addresses.
func TestDefaultTopologyOverlaps(t *testing.T) {
	topo := Default()
	type place struct{ ca, mac string }
	of := map[string][]place{}
	for _, vm := range topo.VMs {
		of[vm.Tenant] = append(of[vm.Tenant], place{vm.CA.String(), vm.MAC.String()})
	}
	if d := cmp.Diff(of["contoso"], of["fabrikam"], cmp.AllowUnexported(place{})); d != "" || len(of["contoso"]) != 5 {
		t.Errorf("the tenants' VMs differ: %s", d)
	}
	for i, s := range topo.Tenants[0].Subnets {
		if o := topo.Tenants[1].Subnets[i]; s.Prefix != o.Prefix || s.VSID == o.VSID {
			t.Errorf("subnet %v beside %v", s, o)
		}
	}
}

func TestTopologyIsChecked(t *testing.T) {
	for want, spoil := range map[string]func(*Topology){
		"no tenant":        func(t *Topology) { t.VMs[0].Tenant = "nobody" },
		"no host":          func(t *Topology) { t.VMs[0].Host = "nowhere" },
		"does not speak":   func(t *Topology) { t.VMs[0].Host = "h4" },
		"does not hold":    func(t *Topology) { t.VMs[0].CA = netip.MustParseAddr("10.9.9.9") },
		"no subnet of the": func(t *Topology) { t.Hosts[0].PA = netip.MustParsePrefix("192.168.9.1/24") },
	} {
		topo := Default()
		spoil(&topo)
		if _, err := New("x", Options{Topology: topo}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want a refusal with %q, got %v", want, err)
		}
	}
}

// TestFlowsKeepTenantsApart looks at the flows of a host that carries two
// tenants with the same addresses: whatever matches an address also matches
// the tenant, its VSID, or the port of one of its VMs.
func TestFlowsKeepTenantsApart(t *testing.T) {
	topo := Default()
	second := contoso()
	second.Name, second.GatewayVSID = "tailspin", vsid(7000)
	for i, n := range []uint32{7000, 7001, 7002} {
		second.Subnets[i].VSID = vsid(n)
	}
	topo.Tenants = append(topo.Tenants, second)
	topo.VMs = append(topo.VMs, vm("t12", "tailspin", 7001, "10.1.1.12", "h3"))
	h, err := topo.Host("h3")
	if err != nil {
		t.Fatal(err)
	}
	s := newHostState(h, &topo)
	for _, v := range topo.VMs {
		if v.Host == "h3" {
			s.local[v.Port()] = v
		}
	}
	addressed := 0
	for _, f := range s.flows() {
		match, _, _ := strings.Cut(f, " actions=")
		if !strings.Contains(match, "nw_dst=") && !strings.Contains(match, "arp_tpa=") && !strings.Contains(match, "dl_dst=00:") {
			continue
		}
		addressed++
		if !strings.Contains(match, "reg0=") && !strings.Contains(match, "reg1=") && !strings.Contains(match, "in_port=v-") {
			t.Errorf("this flow does not say whose address it is: %s", f)
		}
	}
	if addressed < 20 {
		t.Errorf("only %d flows match an address", addressed)
	}
}

func TestIdentityTellsProcessesApart(t *testing.T) {
	id, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !id.alive() {
		t.Error("this process is not alive")
	}
	id.Start++
	if id.alive() {
		t.Error("a process with another start time passes for this one")
	}
	if err := id.signal(9); err == nil {
		t.Error("it would be killed")
	}
}

// A task that has ended before it is looked at was started all the same.
func TestIdentityOfAnEndedProcess(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	for {
		id, state, err := look(cmd.Process.Pid)
		if err != nil || id.PID != cmd.Process.Pid || id.Start == 0 {
			t.Fatalf("identity %+v, state %s: %v", id, state, err)
		}
		if state == "Z" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := identify(cmd.Process.Pid); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("it counts as one that lives: %v", err)
	}
}

// TestHostDocument reads h1's document back as gatewayd would.
func TestHostDocument(t *testing.T) {
	l, err := New("x", Options{})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := l.HostDocument("h1")
	if err != nil {
		t.Fatal(err)
	}
	text, err := DocumentText(doc)
	if err != nil {
		t.Fatal(err)
	}
	var back v1.Document
	if err := yaml.NewDecoder(strings.NewReader(text), yaml.Strict()).Decode(&back); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if d := cmp.Diff(doc, back); d != "" {
		t.Errorf("read back, the document differs: %s", d)
	}
	if len(doc.Ports) != 4 || len(doc.LookupRecords) != 22 || len(doc.Tenants) != 2 || len(doc.CustomerRoutes) != 2 {
		t.Errorf("the document of a host with four VMs:\n%s", text)
	}
	for _, x := range doc.Tenants {
		if _, err := x.Object(); err != nil || x.Gateway != nil {
			t.Errorf("tenant %s on a host: gateway %v, %v", x.Name, x.Gateway, err)
		}
	}
}
