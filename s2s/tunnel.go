//go:build linux

package s2s

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// aliasPrefix begins the alias of every link of ours; the tunnel's name follows.
const aliasPrefix = "hnv:s2s:"

func isOurs(l nl.Link) bool { return strings.HasPrefix(l.Alias, aliasPrefix) }

// tunnel is a running one.
type tunnel struct {
	index     int
	wg        wireguard
	reason    string                 // why it is that
	told      map[Key]netip.AddrPort // endpoints that were set
	probers   map[string]*prober     // by peer
	mtu       int                    // the link's
	derived   int                    // from what the kernel knows; 0: it is not
	narrowed  time.Time              // when that last became less
	inherited int                    // MTU of the link that was adopted; 0: it was made
}

// linkConf: a tunnel forwards; what comes out of it was checked by its key, and
// may come another way than the answer goes.
var linkConf = map[nl.Conf4]int{
	nl.Forwarding4: 1, nl.RPFilter: 0, nl.SendRedirects: 0, nl.AcceptRedirects4: 0, nl.AcceptSourceRoute: 0,
}

// backlog is how many packets may wait for encryption. A TUN link that has more drops
// them without telling the sender, which may be a VM that sends 64 KiB at once: where
// the kernel cuts these to pieces, its usual 500 are eleven of them.
const backlog = 1000

func (e *Engine) applyTunnel(t Tunnel, r *Result) error {
	run, err := e.running(t, r)
	if err != nil {
		return err
	}
	run.shape(t, e.mtuOf(t, run, time.Now()))
	steps := []func(Tunnel, *tunnel, *Result) error{e.applyLink, e.configure}
	if run.wg.kind() == Kernel { // its link listens as soon as it is up
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(t, run, r); err != nil {
			return err
		}
	}
	return e.applyProbes(t, run)
}

// running gives the tunnel's device, started anew where it is not there, has
// ended, lost its link, or is to be of the other implementation.
func (e *Engine) running(t Tunnel, r *Result) (*tunnel, error) {
	run := e.tunnels[t.Interface]
	l, err := e.nl.Link(t.Interface)
	there := err == nil
	if !there && !errors.Is(err, nl.ErrNotFound) {
		return nil, err
	}
	if there && !isOurs(l) && run == nil {
		return nil, fmt.Errorf("link %s is there and not one of ours", t.Interface)
	}
	kind, reason, wrong := pick(e.spec.Implementation, t, e.probeKernel)
	if run != nil {
		if wrong == nil && run.wg.kind() == kind && !run.wg.ended() && there && l.Index == run.index {
			run.reason = reason
			return run, nil
		}
		run.stop()
		delete(e.tunnels, t.Interface)
	}
	if there && isOurs(l) && (wrong != nil || l.Kind != kind.linkKind()) {
		if err := e.nl.DelLink(t.Interface); err != nil {
			return nil, err
		}
		r.add("link %s of kind %s removed", t.Interface, l.Kind)
	}
	if wrong != nil {
		return nil, wrong
	}
	start := e.startEmbedded
	if kind == Kernel {
		start = e.startKernel
	}
	if run, err = start(t); err != nil {
		return nil, err
	}
	run.reason, run.probers = reason, map[string]*prober{}
	e.tunnels[t.Interface] = run
	r.add("tunnel %s started", t.Name)
	return run, nil
}

func (e *Engine) startEmbedded(t Tunnel) (*tunnel, error) {
	file, err := openTUN(e.ns, t.Interface)
	if err != nil {
		return nil, err
	}
	run := &tunnel{told: map[Key]netip.AddrPort{}}
	l, err := e.nl.Link(t.Interface)
	if err == nil && l.Alias == "" { // first the mark: it is found by that
		err = e.nl.SetLink(l.Index, nl.LinkChange{Alias: t.alias(Embedded)})
	} else {
		run.inherited = l.MTU
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	run.index, run.wg = l.Index, newEmbedded(file, t, e.log)
	return run, nil
}

// startKernel makes the tunnel's link, or adopts it as it runs.
func (e *Engine) startKernel(t Tunnel) (*tunnel, error) {
	w := &kernel{ctl: e.kernel.ctl, link: t.Interface}
	l, err := e.nl.Link(t.Interface)
	if errors.Is(err, nl.ErrNotFound) {
		if err := e.nl.AddWireGuard(nl.LinkEnd{Name: t.Interface}); err != nil {
			return nil, err
		}
		if l, err = e.nl.Link(t.Interface); err == nil {
			err = e.nl.SetLink(l.Index, nl.LinkChange{Alias: aliasPrefix + t.Name})
		}
		if err != nil {
			return nil, errors.Join(err, e.nl.DelLink(t.Interface))
		}
		return &tunnel{index: l.Index, wg: w, told: map[Key]netip.AddrPort{}}, nil
	}
	if err != nil {
		return nil, err
	}
	have, err := w.show()
	if err != nil {
		return nil, err
	}
	return &tunnel{index: l.Index, wg: w, told: adopted(l.Alias, have, t.wanted()), inherited: l.MTU}, nil
}

func (run *tunnel) stop() {
	for _, p := range run.probers {
		p.stop()
	}
	run.wg.close()
}

func (run *tunnel) shape(t Tunnel, mtu int) {
	run.mtu = mtu
	run.wg.shape(t, mtu)
}

// applyLink brings the link's MTU, addresses and settings in line.
func (e *Engine) applyLink(t Tunnel, run *tunnel, r *Result) error {
	l, err := e.nl.Link(t.Interface)
	if err != nil {
		return err
	}
	var c nl.LinkChange
	if l.MTU != run.mtu {
		c.MTU = run.mtu
	}
	if l.Backlog != backlog {
		c.Backlog = backlog
	}
	if alias := t.alias(run.wg.kind()); l.Alias != alias {
		c.Alias = alias
	}
	c.AddrGenNone = !l.AddrGenNone
	for k, v := range linkConf {
		if now, ok := l.Conf4(k); ok && now != v {
			c.Conf4 = linkConf
		}
	}
	if c.MTU != 0 || c.Backlog != 0 || c.Alias != "" || c.AddrGenNone || c.Conf4 != nil {
		if err := e.nl.SetLink(l.Index, c); err != nil {
			return err
		}
		r.add("link %s set", t.Interface)
	}
	// Up at last, and apart: an address made before would be gone with an MTU
	// below IPv6's, and is none yet.
	if !l.Up {
		if err := e.nl.SetLink(l.Index, nl.LinkChange{Up: true}); err != nil {
			return err
		}
		r.add("link %s up", t.Interface)
	}
	return e.applyAddresses(t, l.Index, r)
}

func (e *Engine) applyAddresses(t Tunnel, index int, r *Result) error {
	have, err := e.nl.Addrs(index)
	if err != nil {
		return err
	}
	for _, a := range have {
		if !slices.Contains(t.Addresses, a.Prefix) && !a.Prefix.Addr().IsLinkLocalUnicast() {
			if err := e.nl.DelAddr(a); err != nil {
				return err
			}
			r.add("address %s removed from %s", a.Prefix, t.Interface)
		}
	}
	for _, p := range t.Addresses {
		if slices.ContainsFunc(have, func(a nl.Addr) bool { return a.Prefix == p }) {
			continue
		}
		if err := e.nl.AddAddr(nl.Addr{Prefix: p, Link: index, Protocol: RouteProtocol}); err != nil {
			return err
		}
		r.add("address %s on %s", p, t.Interface)
	}
	return nil
}

// configure brings keys, port and peers in line.
func (e *Engine) configure(t Tunnel, run *tunnel, r *Result) error {
	want := t.wanted()
	have, err := run.wg.show()
	if err != nil {
		return err
	}
	done, err := run.wg.change(e.ns, have, want, run.told)
	if err != nil {
		return err
	}
	run.told = map[Key]netip.AddrPort{}
	for k, p := range want.peers {
		run.told[k] = p.endpoint
	}
	if done {
		r.add("tunnel %s configured", t.Name)
	}
	return nil
}

// applyProbes starts, ends and keeps the peers' probers.
func (e *Engine) applyProbes(t Tunnel, run *tunnel) error {
	var errs []error
	wanted := map[string]bool{}
	for _, p := range t.Peers {
		probe := p.probe(e.shared[t.Name+"/"+p.Name])
		target := p.probeTarget()
		source := t.source(target.Is6())
		if !target.IsValid() || !source.IsValid() || target == source {
			continue
		}
		wanted[p.Name] = true
		path := pathSearch{passes: run.inherited}
		if old := run.probers[p.Name]; old != nil {
			if old.target == target && old.source == source && old.key == p.PublicKey && old.probe == probe {
				continue
			}
			old.stop()
			delete(run.probers, p.Name)
			path = pathSearch{passes: old.passes()}
		}
		pr, err := startProber(e.ns, t.Interface, source, target, probe, e.turned, func() time.Time { return run.handshake(p.PublicKey) })
		if err != nil {
			errs = append(errs, err)
			continue
		}
		pr.key = p.PublicKey
		pr.follow(path)
		run.probers[p.Name] = pr
	}
	for name, pr := range run.probers {
		if !wanted[name] {
			pr.stop()
			delete(run.probers, name)
		}
	}
	run.inherited = 0
	return errors.Join(errs...)
}

// handshake tells when the last one with the peer was done; zero: never.
func (run *tunnel) handshake(peer Key) time.Time {
	d, err := run.wg.show()
	if err != nil {
		return time.Time{}
	}
	return d.peers[peer].handshake
}

func (run *tunnel) liveness(peer string) Liveness {
	if pr := run.probers[peer]; pr != nil {
		return pr.look().state
	}
	return Unprobed
}

// describe fills in what the tunnel knows of itself.
func (run *tunnel) describe(s *TunnelState, active map[string]bool, peers []Peer) {
	s.Implementation, s.Reason, s.MTU = run.wg.kind(), run.reason, run.mtu
	s.InboundDrops, s.OutboundDrops = run.wg.drops()
	d, err := run.wg.show()
	if err != nil {
		s.Error = err.Error()
		return
	}
	s.ListenPort = d.port
	for _, p := range peers {
		w := d.peers[p.PublicKey]
		ps := PeerState{Name: p.Name, PublicKey: p.PublicKey, Endpoint: w.endpoint, LastHandshake: w.handshake,
			RxBytes: w.rx, TxBytes: w.tx, Prefixes: missing(w.prefixes, nil), Liveness: Unprobed, Active: active[s.Name+"/"+p.Name]}
		if pr := run.probers[p.Name]; pr != nil {
			d := pr.look()
			ps.Liveness, ps.Since, ps.Loss, ps.RTT = d.state, d.since, d.loss(), d.rtt
			ps.Passes = pr.passes()
		}
		s.Peers = append(s.Peers, ps)
	}
}
