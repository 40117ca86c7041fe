package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/compartments/agent"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/s2s"
)

var (
	contoso  = must(hnv.ParseName("contoso"))
	fabrikam = must(hnv.ParseName("fabrikam"))
	hq       = must(hnv.ParseName("hq"))
	pfx      = netip.MustParsePrefix
	addr     = netip.MustParseAddr
)

// unseal opens what was sealed by writing "sealed " before it.
func unseal(_ hnv.SecretPlace, s hnv.Secret) (string, error) {
	text, ok := strings.CutPrefix(string(s), "sealed ")
	if !ok {
		return "", errors.New("not sealed under this key")
	}
	return text, nil
}

// theConnection is a tunnel to one peer; every tenant may have the same.
func theConnection(tenant hnv.Name, private, peer s2s.Secret) hnv.S2SConnection {
	key := func(k s2s.Key) hnv.WGKey { return must(hnv.ParseWGKey(k.String())) }
	return hnv.S2SConnection{
		Tenant: tenant, Name: hq, PrivateKey: hnv.Secret("sealed " + private.Reveal()), PublicKey: key(private.Public()),
		Addresses: []netip.Prefix{pfx("169.254.10.1/30")},
		Peers: []hnv.S2SPeer{{
			Name: hq, PublicKey: key(peer.Public()), Endpoint: netip.MustParseAddrPort("198.51.100.7:51820"), FromBGP: true,
			Prefixes: []netip.Prefix{pfx("169.254.10.2/32"), pfx("192.168.50.0/24")},
		}},
	}
}

func thePeer(tenant hnv.Name) hnv.BGPPeer {
	return hnv.BGPPeer{Tenant: tenant, Peer: bgp.Peer{Name: "hq", Address: addr("169.254.10.2"), ASN: 65001, BFD: &bgp.BFD{}}, Password: "sealed correct horse"}
}

// startSites runs a Controller with agents on fakes.
func startSites(t *testing.T, m *memory, e *engines, change func(*Options)) (*Controller, *fakeAgents) {
	a := newFakeAgents(e)
	c := startWith(t, m, e, func(o *Options) {
		o.Agents, o.Forwarder, o.Open = a, fakeForwarder{e}, unseal
		o.Uplinks = map[string]string{"internet": "ext0", "dc": "ext1"}
		if change != nil {
			change(o)
		}
	})
	return c, a
}

func siteMemory(t *testing.T) *memory {
	m := newMemory(t)
	m.f = hnv.NewFabric(hnv.Site{
		Uplinks: []string{"internet", "dc"}, UplinkKinds: map[string]string{"dc": hnv.UplinkMACVLAN}, PAInterfaces: []string{"pa0"},
		Checks: []func(*hnv.Fabric, hnv.Name) error{Check},
	})
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")), put(theTenant("fabrikam", 6001, "203.0.113.20")))
	return m
}

func (c *Controller) phaseOf(t *testing.T, n hnv.Name) v1.Phase {
	t.Helper()
	s, err := c.TenantStatus(context.Background(), n)
	if err != nil {
		t.Fatal(err)
	}
	return s.Phase
}

// Rules are there before an attachment is, and until it is gone: also where the
// tenant has no NAT and none are needed without it.
func TestAttachmentsAreGuarded(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	bare := theTenant("contoso", 5001, "203.0.113.10")
	bare.Gateway.NAT = nil
	dc := hnv.Attachment{Tenant: contoso, Name: must(hnv.ParseName("dc")), Uplink: "dc", Addresses: []netip.Prefix{pfx("198.51.100.2/24")}}
	m.change(put(bare), put(dc))
	c, _ := startSites(t, m, e, nil)
	const removed = "remove nat"
	calls := func() []string { return e.of("contoso") }
	eventually(t, "contoso is ready", func() bool { return c.phaseOf(t, contoso) == v1.PhaseReady && slices.Contains(calls(), "forward 1") })
	var d Desired
	m.View(func(f *hnv.Fabric) { d, _ = desired(f, contoso, machine{paMTU: 1500, neighbours: 100}) })
	if got := d.NAT; !slices.Equal(got.OnLink, []netip.Prefix{pfx("198.51.100.0/24")}) || got.Neighbours != 100 {
		t.Errorf("of the networks %v as many neighbours as %d", got.OnLink, got.Neighbours)
	}
	if got := calls(); slices.Index(got, "nat") < 0 || slices.Index(got, "nat") > slices.Index(got, "forward 1") {
		t.Errorf("the attachment is there before its rules: %v", got)
	}
	// What they drop is told, though there is no NAT.
	if s, err := c.TenantStatus(t.Context(), contoso); err != nil || s.NAT == nil || len(s.NAT.Drops) == 0 {
		t.Errorf("of what the rules count, %+v is told: %v", s.NAT, err)
	}
	// As long as the link cannot be removed, the rules stay.
	e.set("forward 0 contoso", errBroken)
	m.change(hnv.Change{Delete: dc})
	eventually(t, "several tries", func() bool {
		return len(slices.DeleteFunc(calls(), func(s string) bool { return s != "forward 0" })) > 3
	})
	namespace := "/run/netns/hnv-contoso"
	if slices.Contains(e.of(namespace), removed) {
		t.Error("the rules went before the link")
	}
	e.set("forward 0 contoso", nil)
	eventually(t, "the rules go", func() bool { return slices.Contains(e.of(namespace), removed) })
}

// What does not fit the machine's uplinks any more is told, and all else is made.
func TestSetAside(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	for _, o := range []hnv.Object{
		hnv.Attachment{Tenant: contoso, Name: must(hnv.ParseName("dc")), Uplink: "dc", VLAN: 7, Addresses: []netip.Prefix{pfx("198.51.100.2/24")}},
		theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey()),
	} {
		if c, ok := o.(hnv.S2SConnection); ok {
			c.LocalAddress, c.ListenPort = addr("198.51.100.2"), 51820
			o = c
		}
		if err := m.f.Load([]hnv.Change{{Put: o}}); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := startSites(t, m, e, nil)
	eventually(t, "both tenants are there", func() bool {
		return c.phaseOf(t, contoso) == v1.PhaseDegraded && c.phaseOf(t, fabrikam) == v1.PhaseReady
	})
	s, err := c.TenantStatus(context.Background(), contoso)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(s.Conditions, func(c v1.Condition) bool { return c.Type == condFits })
	if i < 0 || s.Conditions[i].Status || !strings.Contains(s.Conditions[i].Message, "which has no VLANs") || !strings.Contains(s.Conditions[i].Message, "contoso/hq") {
		t.Errorf("%+v", s.Conditions)
	}
	if a, err := c.Attachments(context.Background(), contoso, must(hnv.ParseName("dc"))); err != nil || len(a) != 1 || a[0].Phase != v1.PhaseError || !strings.Contains(a[0].Message, "VLAN") {
		t.Errorf("%+v, %v", a, err)
	}
	if x, err := c.S2SStatus(context.Background(), contoso, hnv.Name{}); err != nil || len(x) != 1 || x[0].Phase != v1.PhaseError {
		t.Errorf("%+v, %v", x, err)
	}
	if calls := e.of("contoso"); slices.Contains(calls, "forward 1") || slices.Contains(calls, "agent") {
		t.Errorf("it is made: %v", calls)
	}
	m.change(put(hnv.Attachment{Tenant: contoso, Name: must(hnv.ParseName("dc")), Uplink: "dc", Addresses: []netip.Prefix{pfx("198.51.100.2/24")}}))
	eventually(t, "all of it is made", func() bool {
		calls := e.of("contoso")
		return c.phaseOf(t, contoso) == v1.PhaseReady && slices.Contains(calls, "forward 1") && slices.Contains(calls, "agent")
	})
}

// Two tenants with the same tunnels and peers have an agent each that is told all of
// it; what is taken away again takes the agent along.
func TestAgentsAreTold(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	c, a := startSites(t, m, e, nil)
	private, peer := s2s.NewPrivateKey(), s2s.NewPrivateKey()
	for _, n := range []hnv.Name{contoso, fabrikam} {
		m.change(put(theConnection(n, private, peer)), put(hnv.BGPRouter{Tenant: n, ASN: 65000}), put(thePeer(n)),
			put(hnv.NATMapping{Tenant: n, Proto: hnv.TCP, External: netip.AddrPortFrom(addr(map[hnv.Name]string{contoso: "203.0.113.10", fabrikam: "203.0.113.20"}[n]), 443), Internal: netip.MustParseAddrPort("10.1.1.11:443")}))
	}
	for _, n := range []hnv.Name{contoso, fabrikam} {
		eventually(t, n.String()+" is ready", func() bool { return c.phaseOf(t, n) == v1.PhaseReady && a.with(n.String(), func(*fakeAgent) {}) })
		a.with(n.String(), func(x *fakeAgent) {
			tunnels, err := s2s.Decode(x.desired.Parts[agent.S2S])
			if err != nil {
				t.Fatal(err)
			}
			if tn := tunnels.Tunnels[0]; tn.PrivateKey != private || tn.ListenPort != 51820 || tn.Interface != "wg-hq" || tn.Peers[0].PublicKey != peer.Public() {
				t.Errorf("%s: the agent has %+v", n, tn)
			}
			var speaker bgp.Spec
			if err := json.Unmarshal(x.desired.Parts[agent.BGP], &speaker); err != nil {
				t.Fatal(err)
			}
			external := map[hnv.Name]string{contoso: "203.0.113.10", fabrikam: "203.0.113.20"}[n]
			var nets []string
			for _, w := range speaker.Networks {
				nets = append(nets, w.Prefix.String())
			}
			if want := []string{"10.1.1.0/24", "10.1.2.0/24", "10.254.254.0/29", external + "/32"}; !slices.Equal(nets, want) {
				t.Errorf("%s advertises %v, not %v", n, nets, want)
			}
			if speaker.RouterID.String() != external || speaker.Withhold || string(speaker.Peers[0].Password) != "correct horse" {
				t.Errorf("%s: router ID %s, withhold %v", n, speaker.RouterID, speaker.Withhold)
			}
			if err := speaker.Check(); err != nil {
				t.Error(err)
			}
			if x.where.Namespace != "/run/netns/hnv-"+n.String() {
				t.Errorf("%s is in %s", n, x.where.Namespace)
			}
		})
	}
	if e.logged(private.Reveal()) || e.logged("correct horse") {
		t.Error("the log has a secret")
	}
	m.change(hnv.Change{Delete: thePeer(contoso)}, hnv.Change{Delete: hnv.BGPRouter{Tenant: contoso}}, hnv.Change{Delete: hnv.S2SConnection{Tenant: contoso, Name: hq}})
	eventually(t, "contoso has no agent", func() bool { return !a.with("contoso", func(*fakeAgent) {}) && c.phaseOf(t, contoso) == v1.PhaseReady })
	if !a.with("fabrikam", func(*fakeAgent) {}) {
		t.Error("fabrikam has none either")
	}
	if s, _ := c.TenantStatus(context.Background(), contoso); s.Agent != nil || s.Tunnels != nil || s.BGPSessions != nil || len(s.Conditions) != 4 {
		t.Errorf("status is %+v", s)
	}
	cascade, err := m.f.Cascade(fabrikam)
	if err != nil {
		t.Fatal(err)
	}
	m.change(cascade...)
	eventually(t, "fabrikam is gone", func() bool { return slices.Contains(e.of("fabrikam"), "delete compartment") })
	calls := e.of("fabrikam")
	if slices.Index(calls, "discard agent") > slices.Index(calls, "delete compartment") || slices.Index(calls, "discard agent") < 0 {
		t.Errorf("the agent outlives its compartment: %v", calls)
	}
}

// A tenant whose agent does not come up is degraded, says why, and touches neither
// its own NAT nor anybody else.
func TestAgentThatCrashes(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	e.set("agent contoso", errors.New("it does not run: exit status 2"))
	c, a := startSites(t, m, e, nil)
	for _, n := range []hnv.Name{contoso, fabrikam} {
		m.change(put(theConnection(n, s2s.NewPrivateKey(), s2s.NewPrivateKey())))
	}
	eventually(t, "fabrikam is ready", func() bool { return c.phaseOf(t, fabrikam) == v1.PhaseReady })
	eventually(t, "contoso is degraded", func() bool { return c.phaseOf(t, contoso) == v1.PhaseDegraded })
	s, err := c.TenantStatus(context.Background(), contoso)
	if err != nil {
		t.Fatal(err)
	}
	for _, cond := range s.Conditions {
		if bad := cond.Type == condTunnels; cond.Status == bad || bad && !strings.Contains(cond.Message, "exit status 2") {
			t.Errorf("condition %+v", cond)
		}
	}
	if !e.has(compartmentPort(contoso)) {
		t.Error("the compartment's port is out")
	}
	e.set("agent contoso", nil)
	eventually(t, "contoso is ready", func() bool { return c.phaseOf(t, contoso) == v1.PhaseReady })
	a.with("contoso", func(x *fakeAgent) { x.errs[agent.S2S] = "tunnel hq: no such device" })
	eventually(t, "contoso is degraded again", func() bool { return c.phaseOf(t, contoso) == v1.PhaseDegraded })
	st, err := c.S2SStatus(context.Background(), contoso, hq)
	if err != nil || len(st) != 1 || st[0].Phase != v1.PhaseError || !strings.Contains(st[0].Message, "no such device") {
		t.Errorf("status is %+v, %v", st, err)
	}
}

// A key that another machine sealed closes nothing: what runs goes on, and the
// tenant says what is wrong.
func TestAnothersKey(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	conn := theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())
	conn.PrivateKey = "somebody else's"
	m.change(put(conn))
	c, a := startSites(t, m, e, nil)
	eventually(t, "contoso is degraded", func() bool { return c.phaseOf(t, contoso) == v1.PhaseDegraded })
	if a.with("contoso", func(*fakeAgent) {}) {
		t.Error("an agent was told something without a key")
	}
	st, err := c.S2SStatus(context.Background(), contoso, hq)
	if err != nil || !strings.Contains(st[0].Message, "not sealed under this key") || strings.Contains(st[0].Message, "somebody") {
		t.Errorf("status is %+v, %v", st, err)
	}
	secrets := func() (v1.Condition, bool) {
		s := c.Status(nil)
		i := slices.IndexFunc(s.Conditions, func(c v1.Condition) bool { return c.Type == condSecrets })
		if i < 0 {
			return v1.Condition{}, false
		}
		return s.Conditions[i], true
	}
	if cond, ok := secrets(); !ok || cond.Status || !strings.Contains(cond.Message, "of contoso cannot be opened") || cond.Since.IsZero() {
		t.Errorf("the gateway says %+v", cond)
	}
	m.change(hnv.Change{Delete: conn})
	eventually(t, "nothing of it is told any more", func() bool { return c.phaseOf(t, contoso) == v1.PhaseReady })
	if cond, ok := secrets(); ok {
		t.Errorf("the gateway still says %+v", cond)
	}
}

// Where one key cannot be opened, what was deleted goes all the same, and what runs
// goes on.
func TestDeletedDespiteAnothersKey(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	c, a := startSites(t, m, e, nil)
	good, branch := theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey()), theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())
	branch.Name, branch.Addresses = must(hnv.ParseName("branch")), []netip.Prefix{pfx("169.254.20.1/30")}
	branch.Peers[0].Prefixes = []netip.Prefix{pfx("169.254.20.2/32"), pfx("192.168.60.0/24")}
	m.change(put(good), put(branch), put(hnv.BGPRouter{Tenant: contoso, ASN: 65000}), put(thePeer(contoso)))
	has := func(tunnels, peers int) func() bool {
		return func() bool {
			ok := false
			a.with("contoso", func(x *fakeAgent) {
				var speaker bgp.Spec
				spec, err := s2s.Decode(x.desired.Parts[agent.S2S])
				ok = err == nil && json.Unmarshal(x.desired.Parts[agent.BGP], &speaker) == nil && len(spec.Tunnels) == tunnels && len(speaker.Peers) == peers
			})
			return ok
		}
	}
	eventually(t, "both are told", has(2, 1))
	good.PrivateKey = "somebody else's"
	m.change(put(good), hnv.Change{Delete: branch})
	eventually(t, "the deleted one goes", has(1, 1))
	m.change(hnv.Change{Delete: thePeer(contoso)})
	eventually(t, "so does the peer", has(1, 0))
	if c.phaseOf(t, contoso) != v1.PhaseDegraded {
		t.Error("all is said to be well")
	}
}

// What of a compartment had to be made again, its agent may be in no more: it is told
// at once, not when it is its time.
func TestRepairReachesAgent(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	c, a := startSites(t, m, e, func(o *Options) { o.DriftInterval = time.Hour })
	m.change(put(theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())))
	eventually(t, "it is ready", func() bool { return a.with("contoso", func(*fakeAgent) {}) && c.phaseOf(t, contoso) == v1.PhaseReady })
	count := func() (n int) {
		for _, did := range e.of("contoso") {
			if did == "agent" {
				n++
			}
		}
		return n
	}
	before := count()
	e.mu.Lock()
	e.drift["contoso"] = []string{"namespace"}
	e.mu.Unlock()
	c.find(contoso).wish.wake()
	eventually(t, "its agent is told again", func() bool { return count() > before })
}

// Where a tenant goes, nothing goes on minding its agent.
func TestKeeperEnds(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	c, a := startSites(t, m, e, nil)
	m.change(put(theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())))
	eventually(t, "there is an agent", func() bool { return a.with("contoso", func(*fakeAgent) {}) })
	k := c.find(contoso).keeper
	cascade, err := m.f.Cascade(contoso)
	if err != nil {
		t.Fatal(err)
	}
	m.change(cascade...)
	eventually(t, "the tenant is gone", func() bool { return c.find(contoso) == nil })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if k.run(ctx); ctx.Err() != nil {
		t.Error("its keeper goes on")
	}
	if a.with("contoso", func(*fakeAgent) {}) {
		t.Error("its agent is there")
	}
}

// A tenant goes at once, also while its agent does not answer.
func TestStuckAgentHoldsNothingUp(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	m.change(put(theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())))
	c, _ := startSites(t, m, e, func(o *Options) {
		o.StepTimeout = time.Hour
		o.Agents.(*fakeAgents).stuck = map[string]bool{"contoso": true}
	})
	eventually(t, "it is asked", func() bool { return slices.Contains(e.of("contoso"), "stuck agent") })
	cascade, err := m.f.Cascade(contoso)
	if err != nil {
		t.Fatal(err)
	}
	m.change(cascade...)
	eventually(t, "the tenant is gone", func() bool { return c.find(contoso) == nil && slices.Contains(e.of("contoso"), "discard agent") })
}

// An agent that is to be replaced does its duty until it is its turn.
func TestReplacementsWaitTheirTurn(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	m.change(put(theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())))
	c, a := startSites(t, m, e, nil)
	eventually(t, "it is ready", func() bool { return a.with("contoso", func(*fakeAgent) {}) && c.phaseOf(t, contoso) == v1.PhaseReady })
	c.upgrade.Lock()
	a.with("contoso", func(x *fakeAgent) { x.outdated = true })
	m.change(put(hnv.BGPRouter{Tenant: contoso, ASN: 65000}))
	speaks := func() (told bool, pid int) {
		a.with("contoso", func(x *fakeAgent) { told, pid = x.desired.Parts[agent.BGP] != nil, x.pid })
		return told, pid
	}
	eventually(t, "it is told of BGP", func() bool { told, _ := speaks(); return told && c.phaseOf(t, contoso) == v1.PhaseReady })
	if _, pid := speaks(); pid > 1000 {
		t.Error("it was replaced before its turn")
	}
	c.upgrade.Unlock()
	eventually(t, "it is replaced", func() bool { _, pid := speaks(); return pid > 1000 })
}

// While the compartment cannot forward nothing is advertised.
func TestWithhold(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	c, a := startSites(t, m, e, nil)
	m.change(put(theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())), put(hnv.BGPRouter{Tenant: contoso, ASN: 65000}), put(thePeer(contoso)))
	withheld := func() bool {
		out := false
		a.with("contoso", func(x *fakeAgent) {
			var s bgp.Spec
			if json.Unmarshal(x.desired.Parts[agent.BGP], &s) == nil {
				out = s.Withhold
			}
		})
		return out
	}
	eventually(t, "it is ready", func() bool { return a.with("contoso", func(*fakeAgent) {}) && c.phaseOf(t, contoso) == v1.PhaseReady })
	e.set("attach "+compartmentPort(contoso), errBroken)
	eventually(t, "it withholds", withheld)
	if st, err := c.BGPStatus(context.Background(), contoso); err != nil || !st.Withheld {
		t.Errorf("status is %+v, %v", st, err)
	}
	e.set("attach "+compartmentPort(contoso), nil)
	eventually(t, "it advertises again", func() bool { return !withheld() })
	m.change(hnv.Change{Delete: theAddress})
	eventually(t, "it withholds without a provider address", withheld)
	m.change(put(theAddress))
	eventually(t, "it advertises with one", func() bool { return !withheld() })
}

// An agent of an older program is replaced; agents that nobody wants any more are
// ended at the start, with their compartments or without.
func TestAgentsOfBefore(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	m.change(put(theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())))
	var a *fakeAgents
	c, _ := startSites(t, m, e, func(o *Options) {
		a = o.Agents.(*fakeAgents)
		for _, n := range []string{"contoso", "fabrikam", "northwind"} {
			a.state[n] = &fakeAgent{where: agent.Compartment{Namespace: "/run/netns/before"}, pid: 7, outdated: true, errs: map[string]string{}}
		}
	})
	eventually(t, "the others are gone", func() bool {
		known, _ := a.Known()
		return len(known) == 1 && known[0] == contoso
	})
	eventually(t, "contoso's is replaced", func() bool {
		fresh := false
		a.with("contoso", func(x *fakeAgent) { fresh = x.pid == 1007 })
		return fresh && c.phaseOf(t, contoso) == v1.PhaseReady
	})
	if !slices.Contains(e.of("northwind"), "discard agent") || !slices.Contains(e.of("fabrikam"), "remove agent") {
		t.Errorf("northwind: %v, fabrikam: %v", e.of("northwind"), e.of("fabrikam"))
	}
}

// A program that is no good takes the place of one tenant's agent, not of all.
func TestBadProgram(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	for _, n := range []hnv.Name{contoso, fabrikam} {
		m.change(put(theConnection(n, s2s.NewPrivateKey(), s2s.NewPrivateKey())))
		e.set("replace agent "+n.String(), errBroken)
	}
	var a *fakeAgents
	c, _ := startSites(t, m, e, func(o *Options) {
		a = o.Agents.(*fakeAgents)
		for _, n := range []string{"contoso", "fabrikam"} {
			a.state[n] = &fakeAgent{where: agent.Compartment{Namespace: "/run/netns/hnv-" + n}, pid: 7, outdated: true, errs: map[string]string{}}
		}
	})
	replaced := func() int {
		n := 0
		for _, call := range slices.Concat(e.of("contoso"), e.of("fabrikam")) {
			if call == "replace agent" {
				n++
			}
		}
		return n
	}
	eventually(t, "one is tried", func() bool { return replaced() == 1 })
	eventually(t, "both work on, by the old program", func() bool {
		return c.phaseOf(t, contoso) == v1.PhaseReady && c.phaseOf(t, fabrikam) == v1.PhaseReady
	})
	if n := replaced(); n != 1 {
		t.Errorf("%d were tried", n)
	}
}

// What BGP and tunnels say is behind the compartment, hosts are told, behind what an
// operator wrote; but not what is inside the tenant's own prefixes.
func TestLearnedRoutes(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	c, a := startSites(t, m, e, nil)
	m.change(put(theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())), put(hnv.BGPRouter{Tenant: contoso, ASN: 65000}), put(thePeer(contoso)))
	eventually(t, "it is ready", func() bool { return a.with("contoso", func(*fakeAgent) {}) && c.phaseOf(t, contoso) == v1.PhaseReady })
	learn := func(generation uint64, installed int, prefixes ...string) {
		a.with("contoso", func(x *fakeAgent) {
			x.speaker = bgp.State{Generation: generation, FIB: bgp.FIBState{Installed: installed}}
			x.paths = nil
			for _, p := range prefixes {
				x.paths = append(x.paths, bgp.Path{Prefix: pfx(p), Peer: addr("169.254.10.2"), Best: true})
			}
		})
	}
	told := func() (out []string) {
		spec := theTenant("contoso", 5001, "203.0.113.10")
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, r := range e.tables[spec.RDID].Routes {
			if r.Metric == derivedMetric && r.NextHop == addr("10.254.254.2") {
				out = append(out, r.Prefix.String())
			}
		}
		return out
	}
	static := []string{"0.0.0.0/0", "169.254.10.0/30", "169.254.10.2/32"}
	learn(1, 3, "172.16.0.0/16", "10.1.1.128/25", "10.0.0.0/8", "0.0.0.0/0")
	eventually(t, "it is told", func() bool {
		return slices.Equal(told(), slices.Concat(static[:1], []string{"10.0.0.0/8"}, static[1:], []string{"172.16.0.0/16", "192.168.50.0/24"}))
	})
	// A new process says nothing until it has heard its peers.
	restarting := func(on bool) {
		a.with("contoso", func(x *fakeAgent) {
			x.pid, x.speaker.Restarting = 7, on
			if on {
				x.speaker.Generation, x.paths = 0, nil
			}
			x.asked = nil
		})
	}
	restarting(true)
	eventually(t, "the new process is known", func() bool {
		_, st, _, now := c.find(contoso).keeper.snapshot()
		return st.PID == 7 && now.Restarting
	})
	if got := told(); !slices.Equal(got, slices.Concat(static[:1], []string{"10.0.0.0/8"}, static[1:], []string{"172.16.0.0/16", "192.168.50.0/24"})) {
		t.Errorf("while it starts: %v", got)
	}
	restarting(false)
	eventually(t, "what it has not heard goes", func() bool { return slices.Equal(told(), slices.Concat(static, []string{"192.168.50.0/24"})) })
	learn(2, 1, "172.17.0.0/16")
	eventually(t, "the next is told", func() bool {
		return slices.Equal(told(), slices.Concat(static, []string{"172.17.0.0/16", "192.168.50.0/24"}))
	})
	learn(3, maxDerived+1)
	eventually(t, "too many are left to the default route", func() bool { return slices.Equal(told(), slices.Concat(static, []string{"192.168.50.0/24"})) })
	// The tables are the same where the agent was asked between the two last states.
	eventually(t, "so many are said to be left out", func() bool {
		s, err := c.TenantStatus(context.Background(), contoso)
		return err == nil && s.DerivedRoutes != nil && s.DerivedRoutes.LeftOut == maxDerived+1 && s.DerivedRoutes.Used == 3
	})
}

// What the engines would refuse is refused before anything is stored.
func TestChecks(t *testing.T) {
	m := siteMemory(t)
	private := s2s.NewPrivateKey()
	good := theConnection(contoso, private, s2s.NewPrivateKey())
	for want, spoil := range map[string]func(c *hnv.S2SConnection){
		"own":                             func(c *hnv.S2SConnection) { c.Peers[0].PublicKey = c.PublicKey },
		"which is reached through tunnel": func(c *hnv.S2SConnection) { c.Peers[0].Prefixes = []netip.Prefix{pfx("198.51.100.0/24")} },
		"DSCP: 64":                        func(c *hnv.S2SConnection) { c.DSCP = 64 },
		"probe interval: 1 ms":            func(c *hnv.S2SConnection) { c.Peers[0].Probe.IntervalMS = 1 },
		"not of one length": func(c *hnv.S2SConnection) {
			c.LocalMaps = []hnv.PrefixMap{{Real: pfx("10.1.1.0/24"), Mapped: pfx("10.99.0.0/16")}}
		},
	} {
		bad := theConnection(contoso, private, s2s.NewPrivateKey())
		spoil(&bad)
		if _, err := m.f.Apply([]hnv.Change{put(bad)}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), private.Reveal()) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, ok := m.f.Connection(contoso, hq); ok {
		t.Fatal("something was stored")
	}
	if _, err := m.f.Apply([]hnv.Change{put(good)}); err != nil {
		t.Error(err)
	}
	elsewhere := theTenant("northwind", 7001, "203.0.113.30")
	elsewhere.Gateway.Uplink, elsewhere.Gateway.NAT = "dc", nil
	attachment := hnv.Attachment{Tenant: elsewhere.Name, Name: hq, Uplink: "internet", Addresses: []netip.Prefix{pfx("203.0.113.40/32")}}
	if _, err := m.f.Apply([]hnv.Change{put(elsewhere), put(attachment)}); err == nil || !strings.Contains(err.Error(), "its gateway's uplink dc is of kind macvlan") {
		t.Errorf("an attachment without a way outside: %v", err)
	}
}

// The other end is told all that it needs, and no secret.
func TestPeerConfig(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	c, _ := startSites(t, m, e, nil)
	private, psk := s2s.NewPrivateKey(), s2s.NewPresharedKey()
	conn := theConnection(contoso, private, s2s.NewPrivateKey())
	conn.Peers[0].PresharedKey = hnv.Secret("sealed " + psk.Reveal())
	m.change(put(conn))
	got, err := c.PeerConfig(context.Background(), contoso, hq, hq)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []s2s.Secret{private, psk} {
		if b, _ := json.Marshal(got); strings.Contains(string(b), s.Reveal()) {
			t.Errorf("it holds a secret: %s", b)
		}
	}
	for _, want := range []string{"PublicKey = " + private.Public().String(), "Endpoint = 203.0.113.10:51820", "Address = 169.254.10.2/30", "# PresharedKey", "10.1.2.0/24"} {
		if !strings.Contains(got.Quick, want) {
			t.Errorf("without %q:\n%s", want, got.Quick)
		}
	}
	if _, err := c.PeerConfig(context.Background(), contoso, hq, fabrikam); !errors.Is(err, hnv.ErrNotFound) {
		t.Errorf("an unknown peer: %v", err)
	}
	if _, err := c.S2SStatus(context.Background(), contoso, fabrikam); !errors.Is(err, hnv.ErrNotFound) {
		t.Errorf("an unknown connection: %v", err)
	}
}

// A default route is taken from behind a tunnel only where the compartment has one of
// its own, which goes before it: the tunnel's packets would go into the tunnel.
func TestNoDefaultRouteIntoATunnel(t *testing.T) {
	rejects := func(m *memory, peer string) []string {
		var out []string
		spec, err := speakerSpec(m.f, must2(m.f.Tenant(contoso)), unseal)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range spec.Peers {
			for _, r := range p.Import.Rules {
				if p.Name != peer || r.Action != bgp.Reject {
					continue
				}
				for _, q := range r.Match.Prefixes {
					if q.Prefix.Bits() == 0 {
						out = append(out, q.Prefix.String())
					}
				}
			}
		}
		return out
	}
	inside := hnv.BGPPeer{Tenant: contoso, Peer: bgp.Peer{Name: "dc", Address: addr("198.51.100.1"), ASN: 65002}}
	dc := hnv.Attachment{Tenant: contoso, Name: must(hnv.ParseName("dc")), Uplink: "dc", Addresses: []netip.Prefix{pfx("198.51.100.2/24")}}
	for name, x := range map[string]struct {
		nat   bool
		route *hnv.AttachmentRoute
		want  []string
	}{
		"NAT of IPv4":                 {nat: true, want: []string{"::/0"}},
		"nothing":                     {want: []string{"0.0.0.0/0", "::/0"}},
		"a static route":              {route: &hnv.AttachmentRoute{Prefix: pfx("0.0.0.0/0"), NextHop: addr("198.51.100.1")}, want: []string{"::/0"}},
		"a static route behind BGP's": {route: &hnv.AttachmentRoute{Prefix: pfx("0.0.0.0/0"), NextHop: addr("198.51.100.1"), Metric: 100}, want: []string{"0.0.0.0/0", "::/0"}},
	} {
		m := siteMemory(t)
		tn, here := theTenant("contoso", 5001, "203.0.113.10"), dc
		if !x.nat {
			tn.Gateway.NAT = nil
		}
		if x.route != nil {
			here.Routes = []hnv.AttachmentRoute{*x.route}
		}
		m.change(put(tn), put(here), put(theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())),
			put(hnv.BGPRouter{Tenant: contoso, ASN: 65000}), put(thePeer(contoso)), put(inside))
		if got := rejects(m, "hq"); !slices.Equal(got, x.want) {
			t.Errorf("%s: behind the tunnel %v are rejected, want %v", name, got, x.want)
		}
		if got := rejects(m, "dc"); len(got) > 0 {
			t.Errorf("%s: in the attachment's network %v are rejected", name, got)
		}
	}
}

func must2[T any](v T, ok bool) T {
	if !ok {
		panic("not there")
	}
	return v
}

// Tables and resets are asked of the tenant's own agent.
func TestBGPQuestions(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	c, a := startSites(t, m, e, nil)
	ctx := context.Background()
	if _, err := c.BGPStatus(ctx, contoso); !errors.Is(err, hnv.ErrNotFound) {
		t.Errorf("a tenant without BGP: %v", err)
	}
	m.change(put(theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())), put(hnv.BGPRouter{Tenant: contoso, ASN: 65000}), put(thePeer(contoso)))
	eventually(t, "it is ready", func() bool { return a.with("contoso", func(*fakeAgent) {}) && c.phaseOf(t, contoso) == v1.PhaseReady })
	a.with("contoso", func(x *fakeAgent) {
		x.speaker.Peers = []bgp.PeerState{{Name: "hq", Address: addr("169.254.10.2"), Session: "established", Hold: 90 * time.Second}}
		x.paths = []bgp.Path{{Prefix: pfx("172.16.0.0/16"), Peer: addr("169.254.10.2"), Communities: []bgp.Community{bgp.NoExport}}, {Prefix: pfx("172.17.0.0/16")}}
	})
	st, err := c.BGPStatus(ctx, contoso)
	if err != nil || st.Phase != v1.PhaseReady || len(st.Peers) != 1 || st.Peers[0].Session != "established" || st.Peers[0].Hold != 90 {
		t.Errorf("status is %+v, %v", st, err)
	}
	routes, more, err := c.BGPRoutes(ctx, contoso, v1.BGPRouteQuery{Table: v1.BGPReceived, Peer: "hq", Within: "172.16.0.0/12", Limit: 1})
	if err != nil || !more || len(routes) != 1 || routes[0].Peer != "hq" || !slices.Equal(routes[0].Communities, []string{"no-export"}) {
		t.Errorf("routes are %+v, %v, %v", routes, more, err)
	}
	if err := c.BGPSoftReset(ctx, contoso, v1.BGPSoftReset{Peer: "hq", In: true}); err != nil {
		t.Error(err)
	}
	a.with("contoso", func(x *fakeAgent) {
		for _, want := range []string{"GET /v1/bgp/received/hq?limit=2&within=172.16.0.0%2F12", "POST /v1/bgp/soft-reset/hq?in=true"} {
			if !slices.Contains(x.asked, want) {
				t.Errorf("asked %v, not %s", x.asked, want)
			}
		}
	})
	err = c.BGPSoftReset(ctx, contoso, v1.BGPSoftReset{Peer: "nobody"})
	if want := "tenant contoso has no BGP session with a peer nobody: «gatewayctl bgp peer list contoso» lists those there are, and a dynamic one goes by its address"; !errors.Is(err, hnv.ErrNotFound) || err.Error() != want {
		t.Errorf("an unknown peer: %v", err)
	}
}

// An answer that was overtaken by a later one is not believed any more.
func TestAnswersOvertake(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	c, a := startSites(t, m, e, quiet)
	m.change(put(theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())), put(hnv.BGPRouter{Tenant: contoso, ASN: 65000}), put(thePeer(contoso)))
	eventually(t, "it is ready", func() bool { return a.with("contoso", func(*fakeAgent) {}) && c.phaseOf(t, contoso) == v1.PhaseReady })
	k := c.find(contoso).keeper
	d, before, _, _ := k.snapshot()
	early := k.turn()
	a.with("contoso", func(x *fakeAgent) { x.speaker.Generation = 7 })
	k.look(context.Background())
	k.note(early, d, before, nil)
	if _, _, _, now := k.snapshot(); now.Generation != 7 {
		t.Errorf("the state is that of generation %d", now.Generation)
	}
}

// What changes without end is followed less and less often, and promptly again after
// it was calm for some time.
func TestPace(t *testing.T) {
	p := newsPause
	for range 10 {
		p = nextPace(p, true)
	}
	if p != maxNewsPause {
		t.Errorf("after ten changes in a row the pause is %s", p)
	}
	for range 10 {
		p = nextPace(p, false)
	}
	if p != newsPause {
		t.Errorf("after ten looks at nothing new it is %s", p)
	}
}

// Whatever a peer announces, the tenant's VMs, the ways to tunnels' other ends, and
// other peers stay where they are.
func TestGuards(t *testing.T) {
	m := siteMemory(t)
	other := thePeer(contoso)
	other.Name, other.Address = "far", addr("10.200.0.2")
	away := thePeer(contoso)
	away.Name, away.Address, away.MultihopTTL, away.BFD = "away", addr("10.200.0.3"), 5, nil
	m.change(put(theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())), put(hnv.BGPRouter{Tenant: contoso, ASN: 65000}), put(thePeer(contoso)), put(other), put(away))
	tenant, _ := m.f.Tenant(contoso)
	var heard []netip.Addr
	rejected := func(p netip.Prefix) bool {
		return slices.ContainsFunc(guards(m.f, tenant, heard), func(r bgp.Rule) bool {
			return r.Action == bgp.Reject && slices.ContainsFunc(r.Match.Prefixes, func(x bgp.PrefixRange) bool {
				shortest, longest := x.Lengths()
				return x.Prefix.Contains(p.Addr()) && shortest <= p.Bits() && p.Bits() <= longest
			})
		})
	}
	for p, want := range map[string]bool{
		"10.1.1.0/24": true, "10.1.1.11/32": true, "10.0.0.0/8": false,
		"198.51.100.7/32": true, "198.51.0.0/16": true, "128.0.0.0/1": true, "198.51.100.8/32": false, "0.0.0.0/0": false,
		"169.254.10.0/30": true, "169.254.10.2/32": true, "169.254.0.0/16": false,
		"10.200.0.2/32": true, "10.200.0.3/32": false, "10.200.0.0/24": false, "192.168.50.0/24": false,
	} {
		if got := rejected(pfx(p)); got != want {
			t.Errorf("%s: rejected %t, want %t", p, got, want)
		}
	}
	// However many there are, all are guarded, within what a policy takes.
	for i := range 300 {
		heard = append(heard, netip.AddrFrom4([4]byte{byte(11 + i%100), byte(i), byte(i * 7), 9}))
	}
	for _, a := range heard {
		if !rejected(netip.PrefixFrom(a, 32)) {
			t.Errorf("the way to %s is not guarded", a)
		}
	}
	names := map[string]bool{}
	for _, r := range guards(m.f, tenant, heard) {
		if len(r.Match.Prefixes) > maxGuards || names[r.Name] {
			t.Errorf("rule %q has %d prefixes", r.Name, len(r.Match.Prefixes))
		}
		names[r.Name] = true
	}
	if len(names) < 4 {
		t.Errorf("the rules are %v", names)
	}
	// A peer that nobody says the place of has one once it has called.
	heard = []netip.Addr{addr("192.0.2.77")}
	for p, want := range map[string]bool{"192.0.2.77/32": true, "192.0.2.0/24": true, "192.0.2.78/32": false, "198.51.100.7/32": true} {
		if got := rejected(pfx(p)); got != want {
			t.Errorf("%s: rejected %t, want %t", p, got, want)
		}
	}
}

// The way to a peer without an endpoint is guarded from where it calls, as it moves.
func TestRoamingPeersAreGuarded(t *testing.T) {
	m, e := siteMemory(t), newEngines()
	c, a := startSites(t, m, e, nil)
	conn := theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())
	conn.Peers[0].Endpoint = netip.AddrPort{}
	m.change(put(conn), put(hnv.BGPRouter{Tenant: contoso, ASN: 65000}), put(thePeer(contoso)))
	eventually(t, "contoso is ready", func() bool { return c.phaseOf(t, contoso) == v1.PhaseReady && a.with("contoso", func(*fakeAgent) {}) })
	for _, at := range []string{"192.0.2.77", "192.0.2.99"} {
		a.with("contoso", func(x *fakeAgent) {
			x.tunnels = s2s.State{Tunnels: []s2s.TunnelState{{Name: "hq", Peers: []s2s.PeerState{{Name: "hq", Endpoint: netip.AddrPortFrom(addr(at), 51820)}}}}}
		})
		c.AgentNews(contoso)
		eventually(t, "the agent guards the way to "+at, func() (ok bool) {
			a.with("contoso", func(x *fakeAgent) { ok = strings.Contains(string(x.desired.Parts[agent.BGP]), at+"/32") })
			return ok
		})
	}
	a.with("contoso", func(x *fakeAgent) {
		if strings.Contains(string(x.desired.Parts[agent.BGP]), "192.0.2.77/32") {
			t.Error("the place that it left is guarded too")
		}
	})
}
