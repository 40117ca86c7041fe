//go:build privileged && linux

package s2s

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// kernelHas tells whether this kernel has WireGuard, by asking it otherwise than the
// engine does.
func kernelHas(t *testing.T) bool {
	p := newPlace(t, "scratch")
	err := p.nl.AddWireGuard(nl.LinkEnd{Name: "wg0", Up: true})
	if err == nil {
		must(t, p.nl.DelLink("wg0"))
	}
	return err == nil
}

// mapped is a second tunnel of the branches, whose prefixes are translated.
func (b *branches) mapped() Tunnel {
	return Tunnel{Name: "mapped", Interface: "s2s1", PrivateKey: NewPrivateKey(), Addresses: prefixes("169.254.2.1/30"),
		RemoteMaps: []Map{{netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("100.64.9.0/24")}},
		Peers:      []Peer{{Name: "x", PublicKey: NewPrivateKey().Public(), Prefixes: prefixes("10.9.0.0/24")}}}
}

// What implements a tunnel is chosen, by what the kernel has and what the tunnel wants,
// and told; what cannot be had is an error of that tunnel alone.
func TestImplementationIsChosen(t *testing.T) {
	t.Parallel()
	has := kernelHas(t)
	b := newBranches(t)
	spec := b.with(func(*Tunnel) {})
	spec.Tunnels = append(spec.Tunnels, b.mapped())
	e := b.comp.engine()
	of := func(want Implementation) (plain, mapped TunnelState) {
		t.Helper()
		spec.Implementation = want
		_, _ = e.Apply(context.Background(), spec) // the states tell
		s := e.Snapshot()
		if _, err := b.comp.nl.Link(probeLink); err == nil {
			t.Error("the probe's link was left")
		}
		return s.Tunnels[0], s.Tunnels[1]
	}
	is := func(s TunnelState, want Implementation, reason string) {
		t.Helper()
		if s.Implementation != want || s.Reason != reason || s.Error != "" {
			t.Errorf("tunnel %s is %q because %q, error %q; want %s because %q", s.Name, s.Implementation, s.Reason, s.Error, want, reason)
		}
	}
	fails := func(s TunnelState, reason string) {
		t.Helper()
		if s.Implementation != "" || !strings.Contains(s.Error, "agents.wireguard: kernel") || !strings.Contains(s.Error, reason) {
			t.Errorf("tunnel %s is %q, error %q", s.Name, s.Implementation, s.Error)
		}
	}
	works := func() {
		t.Helper()
		must(t, say(b.comp.dial("10.1.1.1", "192.168.1.1:7"), "hello"))
	}
	plain, mapped := of("")
	if has {
		is(plain, Kernel, reasonHad)
	} else {
		is(plain, Embedded, reasonMissing)
	}
	is(mapped, Embedded, reasonMapped)
	works()
	plain, mapped = of(Kernel)
	fails(mapped, reasonMapped)
	if has {
		is(plain, Kernel, reasonForced)
		works()
	} else {
		fails(plain, reasonMissing)
		if _, err := b.comp.nl.Link("s2s0"); err == nil {
			t.Error("a tunnel that may not be left its link")
		}
	}
	plain, mapped = of(Embedded)
	is(plain, Embedded, reasonForced)
	is(mapped, Embedded, reasonForced)
	works()
	plain, _ = of("")
	if has { // in the place of the embedded one
		is(plain, Kernel, reasonHad)
	}
	works()
}

// The kernel's tunnels go on while no process has them, and whoever comes next finds
// nothing to change, a peer that has moved included. This is for where the kernel has
// WireGuard: the guest.
func TestKernelGoesOnAlone(t *testing.T) {
	if os.Getenv(ourImplementation) != string(Kernel) {
		return
	}
	t.Parallel()
	b := newBranches(t)
	spec := b.with(func(t *Tunnel) { t.InboundKbps, t.OutboundKbps, t.DSCP = 1e6, 1e6, 10 })
	e := b.comp.engine()
	apply(t, e, spec)
	c := b.comp.dial("10.1.1.1", "192.168.2.1:7")
	must(t, say(c, "before"))
	b.sites[1].wg("", "set", b.sites[1].link, "listen-port", "51999")
	must(t, say(c, "from elsewhere"))
	await(t, "the move", func() error {
		p, err := peerState(e, "branches", "site2")
		if err == nil && p.Endpoint != addrPort("203.0.2.20:51999") {
			err = errors.New("it is not known yet")
		}
		return err
	})
	before, err := peerState(e, "branches", "site2")
	must(t, err)
	must(t, e.Close(true))
	must(t, say(c, strings.Repeat("alone", 10000)))
	e = b.comp.engine()
	if r := apply(t, e, spec); len(r.Changed) != 1 || r.Changed[0] != "tunnel branches started" {
		t.Errorf("what was found was changed: %v", r.Changed)
	}
	must(t, say(c, "after"))
	p, err := peerState(e, "branches", "site2")
	must(t, err)
	if p.LastHandshake.Sub(before.LastHandshake).Abs() > time.Millisecond || p.Endpoint != before.Endpoint || p.RxBytes < before.RxBytes {
		t.Errorf("state was %+v, is %+v", before, p)
	}
	// Where the Spec has the peer elsewhere now, it is sent there.
	must(t, e.Close(true))
	spec.Tunnels[0].Peers[1].Endpoint = addrPort("203.0.2.20:51998")
	b.sites[1].wg("", "set", b.sites[1].link, "listen-port", "51998")
	e = b.comp.engine()
	apply(t, e, spec)
	must(t, say(c, "there"))
}
