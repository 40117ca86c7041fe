package dataplane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

// world is a lab of three hosts, two tenants that draw from the same few
// addresses and MACs, and random ports. What each host is configured with may
// differ, as it does while changes are under way.
type world struct {
	*lab
	r       *rand.Rand
	tenants []*Tenant // by number: what hosts are to be told next
	told    map[*host][]*Tenant
	gone    map[*host][2]bool // the tenant is not there
	down    map[*host][]netip.Addr
	own     map[*host][]netip.Addr
	deny    bool // what no list speaks of
	nics    []*nic
	at      map[*nic]*plug
	last    []heardProbe // some that have arrived
	sent    []heardProbe // some that were sent, and by whom
}

// heardProbe is a probe and who got it.
type heardProbe struct {
	probe
	by *nic
}

// plug is what the model knows of a port.
type plug struct {
	tenant int
	kind   PortKind
	acl    hnv.Name
	memory memory
	unsure map[conn]bool // whether it is remembered cannot be said
	seen   map[conn]bool // either way, when there was no list
}

// The hosts are 0 to 2, and one that is not there is 3. Each has one PA or three,
// and for each address of each tenant one that may stand for it.
func hostPAs(h int) []netip.Addr {
	n := []int{1, 3, 2, 2}[h]
	out := make([]netip.Addr, n)
	for i := range out {
		out[i] = netip.AddrFrom4([4]byte{192, 168, byte(h), byte(1 + i)})
	}
	return out
}

func standIn(h, tenant, subnet, ca int) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 168, byte(10 + h), byte(100*tenant + 10*subnet + ca)})
}

var aclNames = []hnv.Name{mustName("a"), mustName("b"), mustName("c")}

func ca4(subnet, n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(subnet), byte(n)}) }
func ca6(subnet, n int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 3: byte(subnet), 15: byte(n)})
}

func randomWorld(t *testing.T, seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 3))
	w := &world{
		lab: newLab(t), r: r, told: map[*host][]*Tenant{}, gone: map[*host][2]bool{}, down: map[*host][]netip.Addr{}, own: map[*host][]netip.Addr{},
		at: map[*nic]*plug{}, deny: r.IntN(10) == 0,
	}
	w.rewritten = map[netip.Addr]*host{}
	o := Options{DefaultACL: hnv.Allow}
	if w.deny {
		o.DefaultACL = hnv.Deny
	}
	for i := range 3 {
		var all []string
		for _, pa := range hostPAs(i) {
			all = append(all, pa.String())
		}
		h := w.addHostWith(o, all...)
		for tenant := range 2 {
			for s := range 2 {
				for ca := range 8 {
					pa := standIn(i, tenant, s, ca)
					w.byPA[pa], w.rewritten[pa] = h, h
				}
			}
		}
		w.told[h] = make([]*Tenant, 2)
	}
	for tenant := range 2 { // those of the host that is not there
		for s := range 2 {
			for ca := range 8 {
				w.rewritten[standIn(3, tenant, s, ca)] = w.hosts[0]
			}
		}
	}
	for i, name := range []string{"contoso", "fabrikam"} {
		base := uint32(5000 + 1000*i)
		c := &Tenant{Name: mustName(name), RDID: hnv.NewRDID(), Encap: []hnv.Encap{hnv.NVGRE, hnv.VXLAN}[r.IntN(2)]}
		for s := range uint32(2) {
			c.Subnets = append(c.Subnets, subnet(base+s, fmt.Sprintf("10.0.%d.0/24", s), fmt.Sprintf("fd00:%x::/32", s)))
		}
		w.tenants = append(w.tenants, c)
		for range 3 {
			w.alterLists(i)
		}
		for s := range 2 {
			for range 3 + r.IntN(5) {
				w.alterRecord(i, s)
			}
		}
		w.alterRoutes(i)
	}
	for _, h := range w.hosts {
		w.tellProvider(h)
		for i := range w.tenants {
			w.tell(h, i)
		}
	}
	// Ports where records say, and some where none does.
	w.plugSome()
	for i := range w.tenants {
		for range 3 {
			w.plugIn(w.hosts[r.IntN(3)], i, uint32(5000+1000*i+r.IntN(2)), randomMAC(r))
		}
	}
	return w
}

func (w *world) hostOf(pa netip.Addr) *host { return w.byPA[pa] }

// view is what the host has been told of a tenant, nil for nothing.
func (w *world) view(h *host, tenant int) *Tenant {
	if w.gone[h][tenant] {
		return nil
	}
	return w.told[h][tenant]
}

// pas are those of the host. They never change.
func (w *world) pas(h *host) []netip.Addr {
	if len(w.own[h]) == 0 {
		for pa, o := range w.byPA {
			if o == h {
				w.own[h] = append(w.own[h], pa)
			}
		}
		slices.SortFunc(w.own[h], netip.Addr.Compare)
	}
	return w.own[h]
}

func (w *world) tellProvider(h *host) {
	h.sw.SetProvider(Provider{Addrs: w.pas(h), MTU: 1500, Down: w.down[h]})
}

// tell gives the host the tenant as it is by now.
func (w *world) tell(h *host, tenant int) {
	w.t.Helper()
	c := *w.tenants[tenant]
	c.Subnets, c.Records, c.Routes, c.ACLs = slices.Clone(c.Subnets), slices.Clone(c.Records), slices.Clone(c.Routes), slices.Clone(c.ACLs)
	if err := h.sw.Apply(c); err != nil {
		w.t.Fatal(err)
	}
	w.told[h][tenant] = &c
	g := w.gone[h]
	g[tenant] = false
	w.gone[h] = g
}

// String tells what each host knows, for who looks for a fault.
func (w *world) String() string {
	var b strings.Builder
	for _, h := range w.hosts {
		fmt.Fprintf(&b, "host %s, down %v\n", h.pa, w.down[h])
		for i := range w.tenants {
			t := w.view(h, i)
			if t == nil {
				continue
			}
			fmt.Fprintf(&b, "  %s by %s, QoS %v\n", t.Name, t.Encap, t.QoS)
			for _, r := range t.Records {
				fmt.Fprintf(&b, "    record %s %s %s at %s %v by %s, keeps MAC %v\n", r.Key(), r.Type, r.MAC, r.PA, r.TeamPAs, r.Rule, r.UseVMMAC)
			}
			for _, r := range t.Routes {
				fmt.Fprintf(&b, "    route %s by %s of %s, metric %d\n", r.Prefix, r.NextHop, r.VSID, r.Metric)
			}
			for _, s := range t.Subnets {
				fmt.Fprintf(&b, "    subnet %s, list %s\n", s.VSID, s.ACL)
			}
			for _, a := range t.ACLs {
				fmt.Fprintf(&b, "    list %s: %v\n", a.Name, a.Rules)
			}
		}
		for _, n := range w.nics {
			if n.host == h {
				fmt.Fprintf(&b, "  port %s of VSID %d, %s, list %s, remembers %v\n", n.mac, n.vsid, w.at[n].kind, w.at[n].acl, w.at[n].memory)
			}
		}
	}
	return b.String()
}

// some picks hosts that hear of a change: mostly all.
func (w *world) some() (out []*host) {
	for _, h := range w.hosts {
		if w.r.IntN(6) != 0 {
			out = append(out, h)
		}
	}
	return out
}

// portAt finds the port of the tenant on a host.
func (w *world) portAt(tenant int, h *host, vsid uint32, mac hnv.MAC) *nic {
	for _, n := range w.nics {
		if w.at[n].tenant == tenant && n.host == h && n.vsid == vsid && n.mac == mac {
			return n
		}
	}
	return nil
}

func (w *world) plugIn(h *host, tenant int, vsid uint32, mac hnv.MAC) {
	if w.r.IntN(8) == 0 || w.portAt(tenant, h, vsid, mac) != nil || w.view(h, tenant) == nil {
		return
	}
	p := &plug{tenant: tenant, kind: PortVM, memory: memory{}, unsure: map[conn]bool{}, seen: map[conn]bool{}}
	if w.r.IntN(4) == 0 {
		p.kind = PortCompartment
	}
	n := h.plug(vsid, mac, p.kind)
	w.nics, w.at[n] = append(w.nics, n), p
	w.alterPort(n)
}
