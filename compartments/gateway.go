//go:build linux

package compartments

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hnvgate/hnvgate/internal/nft"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// gateway is the gateway's own namespace: the rules, and what compartments have
// in common. It keeps an image of the sets' elements, which is true as long as
// the ruleset's generation is the one it was true at; so a change costs the
// same however many compartments there are, and any change by others is seen.
type gateway struct {
	names   names
	out     *nl.Handle
	nft     *nft.Conn
	uplinks []string // interfaces
	routes  ownRoutes

	mu      sync.Mutex // guards all below, and changes to anything shared
	known   bool       // whether generation and entries have been read
	gen     uint32
	entries map[entry]bool
	nearby  nearby         // the same entries
	guarded map[string]int // VMs' ports that have a chain, with the interface's index

	// The provider side: what was asked for last, what is remembered of its links,
	// and how it stands.
	wanted   *ProviderSpec
	health   map[string]linkHealth
	fabric   map[string]int // PA links that have a chain, with the interface's index
	heralds  map[netip.Addr]herald
	provider ProviderState
	again    time.Duration
}

// resyncs bounds how often the image is read anew because others keep changing
// the ruleset.
const resyncs = 10

// sync makes sure that the tables are right and the image true. What it changed
// is drift, except the first time. With look it looks even if the ruleset is the
// same: a chain goes with its device without a new generation.
func (g *gateway) sync(look bool) (repaired []string, err error) {
	first := !g.known
	for range resyncs {
		gen, err := g.nft.Generation()
		if err != nil {
			return repaired, err
		}
		if g.known && gen == g.gen && !look {
			return repaired, nil
		}
		look = false
		if err := g.load(); err != nil {
			return repaired, err
		}
		changes, err := g.applyTables()
		if err != nil {
			return repaired, err
		}
		if !first {
			for _, c := range changes {
				repaired = append(repaired, "nftables: "+c)
			}
		}
		// Each table that was changed is one generation.
		g.known = true
		if g.gen, err = g.nft.Generation(); err != nil {
			g.known = false
			return repaired, err
		}
		if len(changes) == 0 && g.gen == gen {
			return repaired, nil
		}
		g.gen = gen // read once more: nothing may have happened in between
	}
	return repaired, fmt.Errorf("nftables: others keep changing the ruleset: %w", nft.ErrChanged)
}

// load reads the elements that are there.
func (g *gateway) load() error {
	g.entries, g.nearby = map[entry]bool{}, newNearby()
	for _, s := range setSpecs {
		elems, err := g.nft.Elements(s.family, g.names.table(), s.empty())
		if err != nil {
			return err
		}
		for _, el := range elems {
			g.entries[s.entry(el)] = true
			g.nearby.add(s.entry(el))
		}
	}
	return nil
}

func (g *gateway) applyTables() ([]string, error) {
	var all []entry
	var fabric, ports []string
	for e := range g.entries {
		all = append(all, e)
		if e.set != setPALinks && e.set != setDeaf {
			continue
		}
		_, err := g.out.Link(e.link)
		switch {
		case errors.Is(err, nl.ErrNotFound):
		case err != nil:
			return nil, err
		case e.set == setPALinks:
			fabric = append(fabric, e.link)
		default:
			ports = append(ports, e.link)
		}
	}
	slices.SortFunc(all, entry.compare)
	slices.Sort(fabric)
	slices.Sort(ports)
	changes, err := g.nft.Apply(inetTable(g.names, g.uplinks, all))
	if err != nil {
		return changes, err
	}
	more, err := g.nft.Apply(netdevTable(g.names, fabric, ports, all))
	return append(changes, more...), err
}

// change puts and takes elements; each table's in one atomic batch.
func (g *gateway) change(c changeEntries) error {
	// Towards a compartment: first the rules let its packets pass, then they are
	// steered to it; and the other way round.
	order := []nft.Family{nft.Inet, nft.NetDev}
	if len(c.put) == 0 {
		slices.Reverse(order)
	}
	for _, f := range order {
		var changes []nft.Change
		for _, s := range setSpecs {
			if s.family != f {
				continue
			}
			ch := nft.Change{Set: s.empty()}
			for _, e := range c.put {
				if e.set == s.name {
					ch.Put = append(ch.Put, s.element(e))
				}
			}
			for _, e := range c.del {
				if e.set == s.name {
					ch.Del = append(ch.Del, s.element(e))
				}
			}
			if len(ch.Put)+len(ch.Del) > 0 {
				changes = append(changes, ch)
			}
		}
		if len(changes) == 0 {
			continue
		}
		if err := g.nft.Change(f, g.names.table(), g.gen, changes); err != nil {
			g.known = false
			return err
		}
		// If somebody else's change slipped in since, the next generation is not
		// the one after ours, and the image is read anew.
		g.gen++
	}
	for _, e := range c.del {
		delete(g.entries, e)
		g.nearby.del(e)
	}
	for _, e := range c.put {
		g.entries[e] = true
		g.nearby.add(e)
	}
	return nil
}

// uplinkSettings are those that a link does not tell of itself.
type uplinkSettings struct {
	delay4           string
	six              bool // whether IPv6 is needed
	delay6, forward6 string
}

// planUplink makes an uplink's interface forward and answer by proxy, without
// the pause that is meant for several proxies on one link.
func planUplink(l nl.Link, s uplinkSettings) []step {
	var out []step
	if v, ok := l.Conf4(nl.Forwarding4); !ok || v != 1 {
		out = append(out, changeLink{outward, l.Name, nl.LinkChange{Conf4: map[nl.Conf4]int{nl.Forwarding4: 1}}, []string{"IPv4 forwarding"}})
	}
	if s.delay4 != "0" {
		out = append(out, setSysctl{outward, setting{"ipv4/neigh/" + l.Name + "/proxy_delay", "0"}})
	}
	if !s.six {
		return out
	}
	if s.delay6 != "0" {
		out = append(out, setSysctl{outward, setting{"ipv6/neigh/" + l.Name + "/proxy_delay", "0"}})
	}
	// A router ignores router advertisements, from which the uplink may have
	// its default route, unless told otherwise.
	if v, _ := l.Conf6(nl.AcceptRA); v == 1 {
		out = append(out, setSysctl{outward, setting{"ipv6/conf/" + l.Name + "/accept_ra", "2"}})
	}
	if v, _ := l.Conf6(nl.ProxyNDP); v != 1 {
		out = append(out, setSysctl{outward, setting{"ipv6/conf/" + l.Name + "/proxy_ndp", "1"}})
	}
	if s.forward6 != "1" {
		// IPv6 forwards on all interfaces or none: note that it is for ours only.
		out = append(out,
			changeEntries{put: []entry{{set: setNotes, link: noteIPv6}}},
			setSysctl{outward, setting{"ipv6/conf/all/forwarding", "1"}})
	}
	return out
}

const maxMTU = 65535 // what an uplink lets in, steering lets through

// steerPair is the link over which packets to shared addresses pass: what goes
// in at one end is steered, or dropped, where it comes out.
func steerPair(n names) pair {
	end := func(name, role string, b byte) link {
		return link{name: name, mac: [6]byte{0x02, 0x68, 'h', 0, 0, b}, mtu: maxMTU, alias: n.alias("", role), noARP: true, ipv6: true,
			conf4: map[nl.Conf4]int{nl.Forwarding4: 0}}
	}
	return pair{inner: end(n.steerIn(), "steer", 1), outer: end(n.steerOut(), "steered", 2)}
}

// planSteer makes the pair, both ends in the gateway's namespace.
func planSteer(n names, links map[string]nl.Link) []step {
	p := steerPair(n)
	a, haveA := links[p.inner.name]
	b, haveB := links[p.outer.name]
	isNew := !haveA || !haveB || a.Parent != b.Index
	var out []step
	if isNew {
		if haveA {
			out = append(out, delLink{outward, p.inner.name})
		} else if haveB {
			out = append(out, delLink{outward, p.outer.name})
		}
		out = append(out, addSteer{p})
		a = nl.Link{MAC: p.inner.mac, MTU: p.inner.mtu, NoARP: true}
		b = nl.Link{MAC: p.outer.mac, MTU: p.outer.mtu, NoARP: true}
	}
	out = append(out, planLink(outward, p.inner, a, isNew)...)
	return append(out, planLink(outward, p.outer, b, isNew)...)
}

type addSteer struct{ pair }

func (s addSteer) String() string { return "link " + s.inner.name + " for shared addresses made" }

// ensureSteer makes sure of the steering link, which a table refers to.
func (e *Engine) ensureSteer(x *executor) ([]string, error) {
	g := e.gw
	links := map[string]nl.Link{}
	for _, n := range []string{g.names.steerIn(), g.names.steerOut()} {
		l, err := g.out.Link(n)
		if err == nil {
			links[n] = l
		} else if !errors.Is(err, nl.ErrNotFound) {
			return nil, err
		}
	}
	steps := planSteer(g.names, links)
	if err := x.run(steps); err != nil {
		return nil, err
	}
	if len(steps) > 0 && g.known {
		_, err := g.sync(true) // the chain went with the link
		return words(steps), err
	}
	return nil, nil
}

func words(steps []step) []string {
	var out []string
	for _, s := range steps {
		out = append(out, s.String())
	}
	return out
}

// prepare brings what compartments share to where it should be.
func (e *Engine) prepare(x *executor, o outside) ([]string, error) {
	g := e.gw
	wasKnown := g.known
	if len(o.shared) > 0 {
		// The strictest of this and an interface's own setting counts, and the
		// route back to a shared address leads to no compartment's link.
		v, err := g.out.Sysctl("ipv4/conf/all/rp_filter")
		if err != nil {
			return nil, err
		}
		if v != "0" {
			return nil, fmt.Errorf("external address %s is shared, which does not work with reverse path filtering on all interfaces (net.ipv4.conf.all.rp_filter is %s): set that to 0 and the interfaces' own settings instead", o.shared[0], v)
		}
	}
	repaired, err := e.ensureSteer(x)
	if err != nil {
		return repaired, err
	}
	more, err := g.sync(false) // the rules are there before anything is forwarded
	repaired = append(repaired, more...)
	if err != nil {
		return repaired, err
	}
	steps, err := g.lookUplink(o.uplink, slices.ContainsFunc(o.proxied, is6))
	if err == nil {
		err = x.run(steps)
	}
	if err != nil {
		return repaired, err
	}
	if slices.ContainsFunc(steps, func(s step) bool { _, ok := s.(changeEntries); return ok }) {
		if _, err := g.sync(true); err != nil { // the tables have a rule more
			return repaired, err
		}
	}
	if wasKnown {
		repaired = append(repaired, words(steps)...)
	}
	return repaired, nil
}

func (g *gateway) lookUplink(uplink string, six bool) ([]step, error) {
	l, err := g.out.Link(uplink)
	if err != nil {
		return nil, err
	}
	s := uplinkSettings{six: six}
	if s.delay4, err = g.out.Sysctl("ipv4/neigh/" + uplink + "/proxy_delay"); err != nil || !six {
		return planUplink(l, s), err
	}
	if s.forward6, err = g.out.Sysctl("ipv6/conf/all/forwarding"); err != nil {
		return nil, fmt.Errorf("%w: external IPv6 addresses need a kernel with IPv6", err)
	}
	s.delay6, err = g.out.Sysctl("ipv6/neigh/" + uplink + "/proxy_delay")
	return planUplink(l, s), err
}
