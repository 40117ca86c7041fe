package offload

import (
	"errors"
	"maps"
	"net/netip"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/lookup"
)

// Fabric is this machine's side of the fabric.
type Fabric struct {
	Tunnel  []PA // provider addresses of ours
	Rewrite []PA // those that stand for CAs
	Groups  []PA // multicast groups that bring broadcasts
}

// PA is an address and the index of the interface that it is on.
type PA struct {
	Addr    netip.Addr
	Ifindex int
}

// Limits bound what goes to user space. The zero value is good.
type Limits struct {
	// Odd is how many packets a second of one tenant may be out of the ordinary,
	// and Bulk how many of its ports' with layers may pass; 0 are DefaultOdd and
	// DefaultBulk.
	Odd, Bulk int
}

// The limits where nothing is said. A packet costs user space some microseconds.
const (
	DefaultOdd  = 5000
	DefaultBulk = 200000
	// burst is for how long a tenant may save its share up.
	burst = 100 * time.Millisecond
)

func (l Limits) fill() Limits {
	if l.Odd <= 0 {
		l.Odd = DefaultOdd
	}
	if l.Bulk <= 0 {
		l.Bulk = DefaultBulk
	}
	return l
}

// provider brings in line what depends on our PAs; with mu. New ones are ours
// before records are at them; old ones are not before records are not. As long as
// the Switch or we do not know the fabric, what an earlier process wrote holds.
func (m *mirror) provider() error {
	if m.fabric == nil || m.sw.ProviderView().MTU == 0 {
		return nil
	}
	pas := map[addr]paValue{}
	for kind, list := range map[uint8][]PA{paTunnel: m.fabric.Tunnel, paGroup: m.fabric.Groups, paRewrite: m.fabric.Rewrite} {
		for _, pa := range list {
			pas[addrOf(pa.Addr)] = paValue{Ifindex: uint32(pa.Ifindex), Kind: kind}
		}
	}
	var errs []error
	for a, v := range pas {
		if was, ok := m.pas[a]; !ok || was != v {
			errs = append(errs, put(m.t.pas, a, v))
		}
	}
	errs = append(errs, m.setSettings(pas), m.setDown(), m.setOwn())
	for a := range m.pas {
		if _, stays := pas[a]; !stays {
			errs = append(errs, erase(m.t.pas, a))
		}
	}
	m.pas = pas
	if !m.known {
		m.known = true
		for r := range m.waiting {
			m.updateTenant(r)
		}
		clear(m.waiting)
	}
	return errors.Join(errs...)
}

// setSettings writes the settings in the place that is not in use, and then has
// it used.
func (m *mirror) setSettings(pas map[addr]paValue) error {
	p := m.sw.ProviderView()
	on := map[uint32]bool{}
	for _, v := range pas {
		if v.Kind == paTunnel {
			on[v.Ifindex] = true
		}
	}
	s := settingsValue{
		Fabrics: uint32(len(on)), MTU: uint32(p.MTU), Punt: uint32(m.puntIndex),
		PuntInterval: uint64(time.Second) / uint64(m.limits.Odd), PuntBurst: uint64(burst),
		BulkInterval: uint64(time.Second) / uint64(m.limits.Bulk), BulkBurst: uint64(burst),
	}
	for _, f := range []struct {
		six   bool
		a     *addr
		index *uint32
	}{{false, &s.Source4, &s.Ifindex4}, {true, &s.Source6, &s.Ifindex6}} {
		if src := m.sw.SourcePA(f.six); src.IsValid() {
			*f.a = addrOf(src.Netip())
			*f.index = pas[*f.a].Ifindex
		}
	}
	if s == m.settings {
		return nil
	}
	next := 1 - m.current
	if err := put(m.t.settings, next, s); err != nil {
		return err
	}
	if err := put(m.t.now, 0, next); err != nil {
		return err
	}
	m.settings, m.current = s, next
	return nil
}

// setDown notes which PAs of teams are not to be chosen.
func (m *mirror) setDown() error {
	down := map[addr]bool{}
	for _, a := range m.sw.ProviderView().Down {
		down[addrOf(a)] = true
	}
	if m.down != nil && maps.Equal(m.down, down) {
		return nil
	}
	m.down = down
	b := batch[uint32, teamValue]{t: m.t.teams}
	for id, v := range m.teams.taken {
		v.Down = m.downIn(v)
		b.add(id, v)
	}
	return b.flush()
}

// downIn gives a bit for each PA of the team that is down.
func (m *mirror) downIn(v teamValue) (bits uint8) {
	for i := range v.N {
		if m.down[v.PA[i]] {
			bits |= 1 << i
		}
	}
	return bits
}

// setOwn writes the records anew that are at a PA that is ours now, or is not any
// more.
func (m *mirror) setOwn() error {
	own, moved := map[lookup.Addr]bool{}, map[lookup.Addr]bool{}
	for _, a := range m.sw.ProviderView().Addrs {
		own[lookup.AddrFrom(a)] = true
	}
	for a := range own {
		if !m.own[a] {
			moved[a] = true
		}
	}
	for a := range m.own {
		if !own[a] {
			moved[a] = true
		}
	}
	m.own = own
	if len(moved) == 0 {
		return nil
	}
	var errs []error
	for _, t := range m.tenants {
		if t.domain == nil {
			continue
		}
		b := batch[recordKey, recordValue]{t: m.t.records}
		for k, r := range t.domain.RecordChanges(nil) {
			if !touches(t.domain, r.Is, moved) {
				continue
			}
			v, err := m.recordValue(t, t.domain, k, r.Is)
			if err != nil {
				errs = append(errs, err)
				break
			}
			b.add(recordKey{t.number, addrOf(k.CA())}, v)
		}
		errs = append(errs, b.flush())
	}
	return errors.Join(errs...)
}

func touches(d *lookup.Domain, r *lookup.Record, pas map[lookup.Addr]bool) bool {
	if pas[r.PA] {
		return true
	}
	if r.Team == 0 {
		return false
	}
	for _, pa := range d.PAs(r) {
		if pas[pa] {
			return true
		}
	}
	return false
}
