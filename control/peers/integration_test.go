package peers_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/api/client"
	"github.com/hnvgate/hnvgate/api/credentials/credentialstest"
	"github.com/hnvgate/hnvgate/api/server"
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/control/peers"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/store"
)

// machine is a store in etcd, an exchange, and the interface on a socket and a
// TLS port.
type machine struct {
	t      *testing.T
	name   string
	pa     string
	dir    string
	socket string
	url    string
	ca     *credentialstest.CA

	store *store.Store
	x     *peers.Exchange
	stop  func()
}

// backend takes reports; nothing else of a gateway is asked for here.
type backend struct {
	server.Backend
	*peers.Exchange
}

func (backend) DerivedRecords() []hnv.Record { return nil }

func newMachine(t *testing.T, ca *credentialstest.CA, name, pa string) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "hnv") // short enough for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		t.Fatal(err)
	}
	url := "https://" + l.Addr().String()
	_ = l.Close()
	return &machine{t: t, name: name, pa: pa, dir: dir, socket: filepath.Join(dir, "s"), url: url, ca: ca}
}

// quick makes minutes into moments.
var quick = peers.Limits{
	Beat: 100 * time.Millisecond, Rarely: 400 * time.Millisecond, Anew: 2 * time.Second, Gather: 5 * time.Millisecond,
	Retry: 20 * time.Millisecond, MaxRetry: 200 * time.Millisecond, Timeout: 2 * time.Second,
}

func (m *machine) start(to ...*machine) {
	m.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	st, err := store.Open(m.t.Context(), store.Options{Dir: m.dir, Site: hnv.Site{PAInterfaces: []string{"pa0"}}, Log: quiet})
	if err != nil {
		m.t.Fatal(err)
	}
	o := peers.Options{Origin: "hnv@" + m.name, Store: st, Limits: quick, Log: quiet}
	var clients []*client.Client
	for i, p := range to {
		c, target := client.New(p.socket), p.socket
		if i%2 == 1 { // one by the socket, one over TLS
			f := m.ca.Issue(m.t.TempDir(), credentialstest.Leaf{Name: m.name})
			if c, err = client.NewTLS(p.url, f); err != nil {
				m.t.Fatal(err)
			}
			target = p.url
		}
		clients = append(clients, c)
		o.Peers = append(o.Peers, peers.Peer{Name: p.name, Target: target, Remote: c})
	}
	x, err := peers.New(o)
	if err != nil {
		m.t.Fatal(err)
	}
	api := server.New(st, backend{Exchange: x}, nil, quiet)
	l, err := server.Listen(server.SocketOptions{Path: m.socket})
	if err != nil {
		m.t.Fatal(err)
	}
	f := m.ca.Issue(m.t.TempDir(), credentialstest.Leaf{Name: m.name, Server: true})
	tl, err := server.ListenTLS(m.t.Context(), server.TLSOptions{
		Address: m.url[len("https://"):], Certificate: f.Certificate, Key: f.Key, ClientCA: f.CA,
		Allow: []string{"operator"}, Peers: []string{"a", "b", "g"}, Log: quiet,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	go func() { ended <- api.Serve(ctx, l) }()
	go func() { ended <- api.ServeTLS(ctx, tl) }()
	go func() { ended <- x.Run(ctx) }()
	m.store, m.x = st, x
	m.stop = func() {
		cancel()
		for range 3 {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				m.t.Error(err)
			}
		}
		for _, c := range clients {
			c.Close()
		}
		st.Close()
	}
}

func (m *machine) apply(changes ...hnv.Change) {
	m.t.Helper()
	if _, err := m.store.Update(m.t.Context(), changes); err != nil {
		m.t.Error(err)
	}
}

func (m *machine) tenant() {
	m.t.Helper()
	name, err := hnv.ParseName("contoso")
	if err != nil {
		m.t.Fatal(err)
	}
	m.apply(
		hnv.Change{Put: hnv.ProviderAddress{Addr: netip.MustParsePrefix(m.pa + "/24"), Interface: "pa0"}},
		hnv.Change{Put: hnv.Tenant{Name: name, Encap: hnv.NVGRE, Subnets: []hnv.Subnet{{VSID: vsid(m.t, 5001), Prefixes: []hnv.SubnetPrefix{{Prefix: netip.MustParsePrefix("10.1.0.0/16")}}}}}},
	)
}

func vsid(t *testing.T, n uint32) hnv.VSID {
	t.Helper()
	v, err := hnv.NewVSID(n)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (m *machine) learned(ca string, n byte) hnv.Record {
	m.t.Helper()
	mac, err := hnv.ParseMAC(fmt.Sprintf("00:15:5d:00:00:%02x", n))
	if err != nil {
		m.t.Fatal(err)
	}
	return hnv.Record{VSID: vsid(m.t, 5001), CA: netip.MustParseAddr(ca), MAC: mac, PA: netip.MustParseAddr(m.pa), Rule: hnv.RuleNVGRE, Type: hnv.Dynamic, VMName: "SQL"}
}

// want waits until all machines have the address at the PA; empty: have it not.
func want(t *testing.T, when, ca, pa string, all ...*machine) {
	t.Helper()
	k := hnv.RecordKey{VSID: vsid(t, 5001), CA: netip.MustParseAddr(ca)}
	deadline := time.Now().Add(time.Minute)
	for _, m := range all {
		for {
			got := ""
			m.store.View(func(f *hnv.Fabric) {
				if r, ok := f.Record(k); ok {
					got = r.PA.String()
				}
			})
			if got == pa {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %s has %s at %q, want %q; its peers: %+v", when, m.name, ca, got, pa, m.x.Peers())
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// Three machines with all that is real about them: etcd, HTTP, sockets, TLS.
func TestThreeMachines(t *testing.T) {
	ca := credentialstest.New(t, "datacenter")
	a, b, g := newMachine(t, ca, "a", "192.168.1.11"), newMachine(t, ca, "b", "192.168.1.12"), newMachine(t, ca, "g", "192.168.1.1")
	a.start(g, b)
	b.start(a, g)
	g.start(a, b)
	defer func() { a.stop(); b.stop(); g.stop() }()
	for _, m := range []*machine{a, b, g} {
		m.tenant()
	}

	a.apply(hnv.Change{Put: a.learned("10.1.0.11", 1)}, hnv.Change{Put: a.learned("10.1.0.12", 2)})
	want(t, "learned", "10.1.0.11", a.pa, a, b, g)
	want(t, "learned", "10.1.0.12", a.pa, a, b, g)

	b.apply(hnv.Change{Put: b.learned("10.1.0.11", 1)})
	want(t, "moved", "10.1.0.11", b.pa, a, b, g)

	// One goes away, learns something else meanwhile and forgets something.
	a.stop()
	b.apply(hnv.Change{Put: b.learned("10.1.0.13", 3)})
	want(t, "while a is down", "10.1.0.13", b.pa, b, g)
	st, err := store.Open(t.Context(), store.Options{Dir: a.dir, Site: hnv.Site{PAInterfaces: []string{"pa0"}}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	a.store = st
	a.apply(hnv.Change{Put: a.learned("10.1.0.14", 4)}, hnv.Change{Delete: a.learned("10.1.0.12", 2)})
	st.Close()
	a.start(g, b)
	want(t, "a is back", "10.1.0.12", "", a, b, g)
	want(t, "a is back", "10.1.0.13", b.pa, a, b, g)
	want(t, "a is back", "10.1.0.14", a.pa, a, b, g)
	want(t, "a is back", "10.1.0.11", b.pa, a, b, g)

	b.apply(hnv.Change{Delete: b.learned("10.1.0.11", 1)})
	want(t, "aged", "10.1.0.11", "", a, b, g)
	deadline := time.Now().Add(time.Minute)
	for _, m := range []*machine{a, b, g} {
		for i := range m.x.Peers() {
			for p := m.x.Peers()[i]; !p.Connected || p.LastError != "" || p.Pending != 0 || p.Phase != v1.PhaseReady; p = m.x.Peers()[i] {
				if time.Now().After(deadline) {
					t.Fatalf("%s: %+v", m.name, p)
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
}

// A peer's certificate opens this and nothing else.
func TestPeerMayNotConfigure(t *testing.T) {
	ca := credentialstest.New(t, "datacenter")
	g := newMachine(t, ca, "g", "192.168.1.1")
	g.start()
	defer g.stop()
	g.tenant()
	c, err := client.NewTLS(g.url, ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "a"}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	age := int64(0)
	rec := v1.LookupRecord{VSID: 5001, CA: "10.1.0.11", MAC: "00:15:5d:00:00:01", PA: "192.168.1.11", Rule: "nvgre", Type: "dynamic"}
	res, err := c.ReportLearned(t.Context(), v1.LearnedReport{Origin: "a", PAs: []string{"192.168.1.11"}, Put: []v1.LearnedRecord{{Record: rec, AgeMillis: &age}}})
	if err != nil || res.Stored != 1 {
		t.Errorf("report: %+v, %v", res, err)
	}
	st, err := c.LearnedRecords(t.Context(), []string{"192.168.1.11"})
	if err != nil || len(st.Items) != 1 || st.Items[0].CA != rec.CA || st.Epoch != res.Epoch {
		t.Errorf("held: %+v, %v", st, err)
	}
	var p *v1.Problem
	if _, err := c.CreateRecord(t.Context(), rec); !errors.As(err, &p) || p.Type != v1.ProblemForbidden {
		t.Errorf("a record by the usual way: %v", err)
	}
	if _, err := c.ReportLearned(t.Context(), v1.LearnedReport{Origin: "a b"}); !errors.As(err, &p) || p.Type != v1.ProblemInvalid {
		t.Errorf("a report that cannot be: %v", err)
	}
}
