package control

import (
	"cmp"
	"slices"
	"time"

	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane/offload"
	"github.com/hnvgate/hnvgate/hnv"
)

// Exits takes in the kernel's programs what compartments and the outside send each
// other, past the rules and routes in the gateway's namespace; *offload.Uplink is
// one. What it is not told of takes these.
type Exits interface {
	Set(e offload.Exit) error
	Remove(link int) error
	// Renew has the exit's connections looked at anew that are translated past the
	// compartment.
	Renew(link int) error
	// Attach has what arrives on an uplink taken.
	Attach(uplink int) error
	// Settle takes out what an earlier process left and this one was not told of.
	Settle() error
	Counters() (map[int]offload.ExitCounters, error)
}

// For how long a compartment's conntrack remembers an established connection
// without packets: each network namespace starts with these, and nobody changes
// them (nf_conntrack_tcp_timeout_established, nf_conntrack_udp_timeout_stream).
const (
	tcpTimeout = 432000 * time.Second
	udpTimeout = 120 * time.Second
)

// exit is the compartment's in the kernel's programs; with the tenant's runner.
type exit struct {
	now    offload.Exit
	reason string // why there is none; "" if there is one, or none is wanted
	within string // why the compartment translates established connections; "": the programs do
}

// untranslated tells why the programs are not to translate the tenant's established
// connections; "": they are.
// A route over a tunnel or an attachment may take a connection over at any time, and
// only the compartment follows it.
func (o *Options) untranslated(says hnv.Offload, beyond bool) string {
	switch {
	case o.NoNATOffload != "":
		return o.NoNATOffload
	case o.Exits == nil:
		return "there is no fast path at the uplinks"
	case says == hnv.OffloadOff:
		return "the tenant's setting says so (--nat-offload off)"
	case beyond:
		return "the tenant has tunnels, attachments or BGP, whose routes only the compartment follows"
	case says != hnv.OffloadOn && !o.NATOffload:
		return "the gateway does it for tenants that ask (natOffload: tenants, --nat-offload on)"
	}
	return ""
}

// restrict takes from the exit what the compartment is not to have any more: before
// the rules are changed, as others may get it as soon as these are.
func (t *tenant) restrict(s *compartments.Spec) {
	if t.c.o.Exits == nil || t.exit.now.Link == 0 {
		return
	}
	e := t.exit.now
	e.External, e.Forwarded = both(e.External, s.External), both(e.Forwarded, s.Forwarded)
	if len(e.External) != len(t.exit.now.External) || len(e.Forwarded) != len(t.exit.now.Forwarded) {
		t.setExit(e)
	}
}

// both gives what is in both lists.
func both[T comparable](had, want []T) []T {
	var out []T
	for _, x := range had {
		if slices.Contains(want, x) {
			out = append(out, x)
		}
	}
	return out
}

// openExit has the programs take the compartment's packets, as it now is.
// untranslated tells why the programs do not translate its established connections;
// "": they do.
func (t *tenant) openExit(c compartments.Exit, s *compartments.Spec, untranslated string) {
	if untranslated == "" && c.Netns < 0 {
		untranslated = "the kernel has no number for the compartment's namespace"
	}
	t.exit.within = untranslated
	defer func() { t.status.exits(c.Link, cmp.Or(t.exit.within, t.exit.reason)) }()
	if t.c.o.Exits == nil {
		return
	}
	if t.exit.now.Link != c.Link {
		t.closeExit()
		t.exit.within = untranslated
	}
	e := offload.Exit{Link: c.Link, Uplink: c.Uplink, MAC: c.MAC, Peer: c.PeerMAC, MTU: c.MTU, External: s.External, Forwarded: s.Forwarded}
	if untranslated == "" {
		e.NAT = &offload.NAT{Port: c.Port, Netns: c.Netns, TCPTimeout: tcpTimeout, UDPTimeout: udpTimeout}
	}
	t.setExit(e)
	if t.exit.reason == "" {
		t.noteExit(t.c.o.Exits.Attach(c.Uplink))
	}
}

func (t *tenant) setExit(e offload.Exit) {
	t.exit.now = e
	err := t.c.o.Exits.Set(e)
	t.noteExit(err)
	if err != nil { // the rules and routes are there
		_ = t.c.o.Exits.Remove(e.Link)
	}
}

func (t *tenant) noteExit(err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	if reason != t.exit.reason && reason != "" {
		t.c.o.Log.Warn("what a compartment and the outside send each other takes the kernel's rules and routes, not the fast path", "tenant", t.name, "err", err)
	}
	t.exit.reason = reason
}

// renewExit ends at once what the compartment does not translate any more.
func (t *tenant) renewExit() {
	if t.c.o.Exits == nil || t.exit.now.NAT == nil {
		return
	}
	if err := t.c.o.Exits.Renew(t.exit.now.Link); err != nil {
		t.noteExit(err)
		_ = t.c.o.Exits.Remove(t.exit.now.Link)
	}
}

func (t *tenant) closeExit() {
	if t.c.o.Exits == nil || t.exit.now.Link == 0 {
		return
	}
	t.noteExit(t.c.o.Exits.Remove(t.exit.now.Link))
	t.exit = exit{}
}
