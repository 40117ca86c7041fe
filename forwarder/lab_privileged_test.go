//go:build privileged && linux

package forwarder

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// lab is a gateway's namespace with physical networks at it, and compartments. A
// compartment here has what package compartments gives it: forwarding, and a link
// wnv5000 to a VM.
type lab struct {
	t    testing.TB
	gw   string // names of namespaces
	e    *Engine
	name string // the instance
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{t: t, gw: nstest.New(t, "gw"), name: "fwt"}
	l.ip(l.gw, "link set lo up")
	l.e = l.engine()
	return l
}

func (l *lab) engine() *Engine {
	l.t.Helper()
	e, err := New(Config{Instance: l.name, Machine: "m1", Namespace: netns.Path(l.gw)})
	must(l.t, err)
	l.t.Cleanup(func() { must(l.t, e.Close()) })
	return e
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// compartment makes one with a VM behind it, 10.1.1.11 and fd01::11.
func (l *lab) compartment() (ns, vm string) {
	l.t.Helper()
	ns, vm = nstest.New(l.t, "comp"), nstest.New(l.t, "vm")
	for _, s := range []string{"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0"} {
		l.run(ns, "sysctl -qw "+s)
	}
	h := l.open(ns)
	must(l.t, h.AddVeth(nl.LinkEnd{Name: "wnv5000"}, nl.LinkEnd{Name: "eth0", Namespace: netns.Path(vm)}))
	l.run(ns, "sysctl -qw net.ipv4.conf.wnv5000.rp_filter=1")
	l.run(vm, "sysctl -qw net.ipv6.conf.default.accept_dad=0")
	l.up(ns, "wnv5000", "10.1.1.1/24", "fd01::1/64")
	l.up(vm, "eth0", "10.1.1.11/24", "fd01::11/64")
	l.ip(vm, "route add default via 10.1.1.1")
	l.ip(vm, "-6 route add default via fd01::1")
	l.ip(ns, "link set lo up")
	return ns, vm
}

// station makes a namespace whose eth0 is wired to an interface of the gateway's
// namespace, with the addresses.
func (l *lab) station(ifname string, addrs ...string) string {
	l.t.Helper()
	ns := nstest.New(l.t, "dc")
	l.run(ns, "sysctl -qw net.ipv6.conf.default.accept_dad=0")
	gw := l.open(l.gw)
	must(l.t, gw.AddVeth(nl.LinkEnd{Name: ifname}, nl.LinkEnd{Name: "eth0", Namespace: netns.Path(ns)}))
	l.up(l.gw, ifname)
	l.up(ns, "eth0", addrs...)
	return ns
}

// bridge makes a Linux bridge with the interface as its port.
func (l *lab) bridge(name, port string) {
	l.t.Helper()
	l.ip(l.gw, "link add "+name+" type bridge forward_delay 0")
	l.ip(l.gw, "link set "+port+" master "+name)
	l.up(l.gw, name)
}

func (l *lab) up(ns, link string, addrs ...string) {
	l.t.Helper()
	l.ip(ns, "link set "+link+" up")
	for _, a := range addrs {
		if strings.Contains(a, ":") {
			a += " nodad"
		}
		l.ip(ns, "addr add dev "+link+" "+a)
	}
}

func (l *lab) open(ns string) *nl.Handle {
	l.t.Helper()
	h, err := nl.Open(netns.Path(ns))
	must(l.t, err)
	l.t.Cleanup(h.Close)
	return h
}

// try runs a command in a namespace.
func (l *lab) try(ns, command string) (string, error) {
	args := append([]string{"--net=" + netns.Path(ns)}, strings.Fields(command)...)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nsenter", args...).CombinedOutput()
	return string(out), err
}

func (l *lab) run(ns, command string) string {
	l.t.Helper()
	out, err := l.try(ns, command)
	if err != nil {
		l.t.Fatalf("%s: %s: %v\n%s", filepath.Base(ns), command, err, out)
	}
	return out
}

func (l *lab) ip(ns, command string) string {
	l.t.Helper()
	return l.run(ns, "ip "+command)
}

// reaches tells whether an echo comes back within a minute: the kernel takes its time
// until a link that came up has its carrier, and addresses have to be resolved.
func (l *lab) reaches(ns, to string) bool {
	l.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := l.try(ns, "ping -c1 -W1 "+to); err == nil {
			return true
		}
	}
	return false
}

// mustReach fails the test where no echo comes back; mustNot where one does.
func (l *lab) mustReach(ns, to string) {
	l.t.Helper()
	if !l.reaches(ns, to) {
		l.t.Errorf("%s does not reach %s", filepath.Base(ns), to)
	}
}

func (l *lab) mustNotReach(ns, to string) {
	l.t.Helper()
	if out, err := l.try(ns, "ping -c2 -i0.2 -W1 "+to); err == nil {
		l.t.Errorf("%s reaches %s:\n%s", filepath.Base(ns), to, out)
	}
}

// apply fails the test where Apply does, and gives what it changed.
func (l *lab) apply(tenant, ns string, as ...Attachment) []string {
	l.t.Helper()
	res, err := l.e.Apply(l.t.Context(), l.spec(tenant, ns, as...))
	must(l.t, err)
	return res.Repaired
}

// settled fails the test where a second Apply finds something to do.
func (l *lab) settled(tenant, ns string, as ...Attachment) {
	l.t.Helper()
	if again := l.apply(tenant, ns, as...); len(again) > 0 {
		l.t.Errorf("applied again, it changes %q", again)
	}
}

func (l *lab) spec(tenant, ns string, as ...Attachment) Spec {
	return Spec{Tenant: name(l.t, tenant), Namespace: netns.Path(ns), Attachments: as}
}

// foot is an attachment named dc on the parent with the addresses.
func (l *lab) foot(kind, parent string, addrs ...string) Attachment {
	a := Attachment{Name: name(l.t, "dc"), Link: "fw-dc", Kind: kind, Parent: parent}
	for _, p := range addrs {
		a.Addresses = append(a.Addresses, pfx(p))
	}
	return a
}

func (a Attachment) via(prefix, hop string, metric uint32) Attachment {
	a.Routes = append(append([]Route(nil), a.Routes...), Route{Prefix: pfx(prefix), NextHop: ip(hop), Metric: metric})
	return a
}
