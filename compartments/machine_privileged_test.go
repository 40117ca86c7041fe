//go:build privileged && linux

package compartments

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// unprivileged names the variable that tells a test to run as another user.
const unprivileged = "HNV_TEST_UNPRIVILEGED"

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 && os.Getenv(unprivileged) == "" {
		println("privileged tests need root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// machine is a gateway in a namespace of its own, with three networks around
// it, each a namespace with one host:
//
//	fabric 192.168.1.1 -- pa0 [gateway] up0 203.0.113.1 -- 203.0.113.254 outside
//	                       mg0 172.16.0.1
//	                        |
//	                      172.16.0.2 mgmt
type machine struct {
	t                     testing.TB
	id                    string // also the instance's name
	gw                    *nl.Handle
	outside, fabric, mgmt string // names of namespaces
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	var b [4]byte
	_, _ = rand.Read(b[:])
	m := &machine{t: t, id: "hnvt" + hex.EncodeToString(b[:])}
	m.outside, m.fabric, m.mgmt = m.id+".outside", m.id+".fabric", m.id+".mgmt"
	t.Cleanup(m.down)
	gw := m.id + ".gw"
	for _, n := range []string{gw, m.outside, m.fabric, m.mgmt} {
		must(t, netns.Create(n))
		m.run(n, "sysctl -qw net.ipv6.conf.default.accept_dad=0")
	}
	var err error
	m.gw, err = nl.Open(netns.Path(gw))
	must(t, err)
	m.wire("up0", m.outside, "203.0.113.1/24", "203.0.113.254/24", "2001:db8:f::1/64", "2001:db8:f::254/64")
	m.wire("pa0", m.fabric, "", "192.168.1.1/24")
	m.wire("mg0", m.mgmt, "172.16.0.1/24", "172.16.0.2/24")
	m.ip(gw, "link set lo up")
	m.ip(gw, "route add default via 203.0.113.254")
	m.ip(gw, "-6 route add default via 2001:db8:f::254")
	m.ip(m.mgmt, "route add default via 172.16.0.1")
	m.ip(m.fabric, "route add default via 192.168.1.10")
	return m
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) wire(name, peer string, addrs ...string) {
	must(m.t, m.gw.AddVeth(nl.LinkEnd{Name: name}, nl.LinkEnd{Name: "eth0", Namespace: netns.Path(peer)}))
	m.ip(m.id+".gw", "link set "+name+" up")
	m.ip(peer, "link set eth0 up")
	m.ip(peer, "link set lo up")
	for i, a := range addrs {
		flags := ""
		if strings.Contains(a, ":") {
			flags = " nodad"
		}
		switch {
		case a == "":
		case i%2 == 0:
			m.ip(m.id+".gw", "addr add "+a+" dev "+name+flags)
		default:
			m.ip(peer, "addr add "+a+" dev eth0"+flags)
		}
	}
}

// down removes every namespace of the machine, its compartments' too.
func (m *machine) down() {
	if m.gw != nil {
		m.gw.Close()
	}
	all, err := netns.List()
	if err != nil {
		m.t.Error(err)
	}
	for _, n := range all {
		if strings.HasPrefix(n, m.id) {
			if err := netns.Delete(n); err != nil {
				m.t.Error(err)
			}
		}
	}
}

// try runs a command in a namespace.
func (m *machine) try(ns, command string) (string, error) {
	args := append([]string{"--net=" + netns.Path(ns)}, strings.Fields(command)...)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nsenter", args...).CombinedOutput()
	return string(out), err
}

func (m *machine) run(ns, command string) string {
	m.t.Helper()
	out, err := m.try(ns, command)
	if err != nil {
		m.t.Fatalf("%s: %s: %v\n%s", ns, command, err, out)
	}
	return out
}

func (m *machine) ip(ns, command string) string {
	m.t.Helper()
	return m.run(ns, "ip "+command)
}

func (m *machine) engine() *Engine {
	m.t.Helper()
	e, err := New(Config{
		Instance: m.id, Namespace: netns.Path(m.id + ".gw"),
		Uplinks:      []Uplink{{Name: "internet", Kind: Routed, Interface: "up0"}},
		PAInterfaces: []string{"pa0"},
		Log:          slog.New(slog.NewTextHandler(testWriter{m.t}, nil)),
	})
	must(m.t, err)
	m.t.Cleanup(func() { must(m.t, e.Close()) })
	return e
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// open opens another namespace of the machine.
func (m *machine) open(ns string) *nl.Handle {
	m.t.Helper()
	h, err := nl.Open(netns.Path(ns))
	must(m.t, err)
	m.t.Cleanup(h.Close)
	return h
}

// makeVM makes a namespace with a link to the gateway.
func (m *machine) makeVM(ns, link string) {
	m.t.Helper()
	must(m.t, netns.Create(ns))
	must(m.t, m.gw.AddVeth(nl.LinkEnd{Name: link}, nl.LinkEnd{Name: "eth0", Namespace: netns.Path(ns)}))
}
