package control

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/offload"
	"github.com/hnvgate/hnvgate/hnv"
)

// fakeExits notes what it is told.
type fakeExits struct {
	said   []string
	exits  map[int]offload.Exit
	refuse error
}

func (f *fakeExits) say(s string) { f.said = append(f.said, s) }

func (f *fakeExits) Set(e offload.Exit) error {
	f.say("set")
	if f.refuse != nil {
		return f.refuse
	}
	f.exits[e.Link] = e
	return nil
}

func (f *fakeExits) Remove(link int) error {
	f.say("remove")
	delete(f.exits, link)
	return nil
}

func (f *fakeExits) Renew(int) error  { f.say("renew"); return nil }
func (f *fakeExits) Attach(int) error { f.say("attach"); return nil }
func (f *fakeExits) Settle() error    { f.say("settle"); return nil }

func (f *fakeExits) Counters() (map[int]offload.ExitCounters, error) {
	return map[int]offload.ExitCounters{0: {Spoofed: 1}, 7: {Spoofed: 2, Fragment: 3, NATIn: dataplane.Traffic{Packets: 5}, NATOut: dataplane.Traffic{Bytes: 600}}}, nil
}

func external(addrs ...string) (out []hnv.ExternalRange) {
	for _, a := range addrs {
		out = append(out, hnv.ExternalRange{Addr: netip.MustParseAddr(a)})
	}
	return out
}

func outside(addrs ...string) *compartments.Spec {
	return &compartments.Spec{External: external(addrs...)}
}

func exitTenant() (*tenant, *fakeExits) {
	f := &fakeExits{exits: map[int]offload.Exit{}}
	return &tenant{c: &Controller{o: Options{Exits: f, NATOffload: true, Log: slog.New(slog.DiscardHandler)}}}, f
}

// What a compartment loses, it loses in the programs before anybody else may get it.
func TestExitIsRestrictedFirst(t *testing.T) {
	n, f := exitTenant()
	at := compartments.Exit{Link: 7, Port: 8, Uplink: 2, MTU: 1500, Netns: 1}
	n.restrict(outside("203.0.113.10"))
	n.openExit(at, outside("203.0.113.10", "203.0.113.11"), "")
	if e := f.exits[7]; len(e.External) != 2 || e.NAT == nil || e.NAT.Port != 8 || e.NAT.Netns != 1 {
		t.Fatalf("the exit is %+v", e)
	}
	n.restrict(outside("203.0.113.11", "203.0.113.12"))
	if e := f.exits[7]; !slices.Equal(e.External, external("203.0.113.11")) {
		t.Errorf("before the rules are changed, it has %v", e.External)
	}
	n.openExit(at, outside("203.0.113.11", "203.0.113.12"), "not now")
	if e := f.exits[7]; len(e.External) != 2 || e.NAT != nil || n.status.within != "not now" {
		t.Errorf("then it is %+v, as %q", e, n.status.within)
	}
	// A compartment that is made anew has another link.
	at.Link = 9
	n.openExit(at, outside("203.0.113.11"), "")
	if _, still := f.exits[7]; still || len(f.exits) != 1 {
		t.Errorf("exits: %+v", f.exits)
	}
	n.renewExit()
	n.closeExit()
	n.closeExit()
	want := []string{"set", "attach", "set", "set", "attach", "remove", "set", "attach", "renew", "remove"}
	if !slices.Equal(f.said, want) {
		t.Errorf("said %v, not %v", f.said, want)
	}
}

// So it is with prefixes that are forwarded.
func TestExitForwards(t *testing.T) {
	n, f := exitTenant()
	at := compartments.Exit{Link: 7, Port: 8, Uplink: 2, MTU: 1500, Netns: 1}
	with := outside("203.0.113.10")
	with.Forwarded = []netip.Prefix{netip.MustParsePrefix("10.1.1.0/24"), netip.MustParsePrefix("10.1.2.0/24")}
	n.openExit(at, with, "")
	if e := f.exits[7]; !slices.Equal(e.Forwarded, with.Forwarded) {
		t.Errorf("the exit is %+v", e)
	}
	less := outside("203.0.113.10")
	less.Forwarded = []netip.Prefix{with.Forwarded[1], netip.MustParsePrefix("10.1.3.0/24")}
	n.restrict(less)
	if e := f.exits[7]; !slices.Equal(e.Forwarded, with.Forwarded[1:]) {
		t.Errorf("before the rules are changed, it forwards %v", e.Forwarded)
	}
}

// What the programs refuse is the rules' and routes'.
func TestRefusedExitIsRemoved(t *testing.T) {
	n, f := exitTenant()
	f.refuse = errors.New("the table is full")
	n.openExit(compartments.Exit{Link: 7, Uplink: 2, MTU: 1500}, outside("203.0.113.10"), "")
	if !slices.Equal(f.said, []string{"set", "remove"}) || n.exit.reason != "the table is full" {
		t.Errorf("said %v, reason %q", f.said, n.exit.reason)
	}
	f.refuse = nil
	n.openExit(compartments.Exit{Link: 7, Uplink: 2, MTU: 1500}, outside("203.0.113.10"), "")
	if n.exit.reason != "" || len(f.exits) != 1 {
		t.Errorf("afterwards: %q, %v", n.exit.reason, f.exits)
	}
}

// A tenant has the last word about its connections, where anybody's can be translated
// past the compartment.
func TestWhoseConnectionsAreOffloaded(t *testing.T) {
	on := Options{Exits: &fakeExits{}, NATOffload: true}
	asked := Options{Exits: &fakeExits{}}
	never := Options{Exits: &fakeExits{}, NATOffload: true, NoNATOffload: "the kernel cannot"}
	for _, c := range []struct {
		o      Options
		says   hnv.Offload
		beyond bool
		want   string
	}{
		{on, hnv.OffloadAuto, false, ""},
		{on, hnv.OffloadOn, false, ""},
		{on, hnv.OffloadOff, false, "the tenant's setting"},
		{on, hnv.OffloadOn, true, "whose routes only the compartment follows"},
		{asked, hnv.OffloadAuto, false, "for tenants that ask"},
		{asked, hnv.OffloadOn, false, ""},
		{asked, hnv.OffloadOff, false, "the tenant's setting"},
		{never, hnv.OffloadOn, false, "the kernel cannot"},
		{never, hnv.OffloadOff, false, "the kernel cannot"},
		{Options{NATOffload: true}, hnv.OffloadOn, false, "no fast path"},
	} {
		if got := c.o.untranslated(c.says, c.beyond); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v, tenant says %q: %q, want %q", c.o, c.says, got, c.want)
		}
	}
	n, f := exitTenant()
	n.openExit(compartments.Exit{Link: 7, Port: 8, Uplink: 2, MTU: 1500, Netns: -1}, outside("203.0.113.10"), "")
	if e := f.exits[7]; e.NAT != nil || !strings.Contains(n.status.within, "no number") {
		t.Errorf("without a number of its namespace it is %+v, as %q", e, n.status.within)
	}
	// It tells what became of it, with what the programs counted.
	n.openExit(compartments.Exit{Link: 7, Port: 8, Uplink: 2, MTU: 1500, Netns: 1}, outside("203.0.113.10"), "")
	var st v1.NATStatus
	n.c.offloadStatus(n, &st)
	if st.Offload != "ebpf" || st.OffloadReason != "" || st.Offloaded == nil || st.Offloaded.In.Packets != 5 || st.Offloaded.Out.Bytes != 600 {
		t.Errorf("status: %+v", st)
	}
	n.closeExit()
	n.status.unplace()
	n.openExit(compartments.Exit{Link: 9, Uplink: 2, MTU: 1500, Netns: 1}, outside("203.0.113.10"), "not now")
	st = v1.NATStatus{}
	n.c.offloadStatus(n, &st)
	if st.Offload != "kernel" || st.OffloadReason != "not now" || st.Offloaded != nil {
		t.Errorf("status: %+v", st)
	}
}

func TestExitDropsAreTheRulesToo(t *testing.T) {
	n, _ := exitTenant()
	if d := n.c.exitDrops(); d[compartments.DropSpoofed] != 3 || d[compartments.DropFragment] != 3 {
		t.Errorf("drops: %v", d)
	}
}
