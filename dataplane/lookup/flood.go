package lookup

import "slices"

// Target is a host that has a copy of a virtual subnet's broadcasts.
type Target struct {
	PA   Addr
	Rule Rule // NVGRE or VXLAN: the one that most records of the subnet at the host have
	// L2Only tells that the host has stations in the subnet whose CAs are not
	// known, so that only they can answer for one.
	L2Only bool
}

// Flood lists the hosts of a virtual subnet, each once however many records and
// PAs it has, under the PA that most of the subnet's records there have as their
// own. This machine's own PAs are among them. Hosts with nothing but rewrite
// records are not: they take no encapsulated packets. The caller must not change
// the list.
func (d *Domain) Flood(vsid uint32) []Target {
	if p := d.flood.Get(Number(vsid)); p != nil {
		return *p
	}
	return nil
}

// tally counts the records of a virtual subnet that have a PA as their own.
type tally struct {
	nvgre, vxlan uint32
	l2only       uint32 // of these
}

func (t *tally) add(r *Record, n uint32) {
	switch r.Rule {
	case RuleNVGRE:
		t.nvgre += n
	case RuleVXLAN:
		t.vxlan += n
	}
	if r.Type == L2Only {
		t.l2only += n
	}
}

// floodEdit follows the changes of tallies with those of the lists.
type floodEdit struct {
	d       *Domain
	tallies *Editor[Key, tally] // the Key's address is a PA
	lists   *Editor[Number, []Target]
	touched map[Key]struct{}
}

func (d *Domain) editFlood() floodEdit {
	return floodEdit{d, d.tallies.Edit(), d.flood.Edit(), map[Key]struct{}{}}
}

// count takes n records like r in, or out where n is ^0.
func (e *floodEdit) count(vsid [3]byte, r *Record, n uint32) {
	if r.Rule == RuleRewrite {
		return
	}
	k := Key{r.PA, vsid}
	t, _ := e.tallies.Own(k)
	t.add(r, n)
	if t.nvgre == 0 && t.vxlan == 0 {
		e.tallies.Delete(k)
	}
	e.touched[k] = struct{}{}
}

// settle brings the lists up to date, for the hosts as they are now.
func (e *floodEdit) settle(now *hosts) {
	was := &e.d.teams.hosts
	dirty := map[uint32]map[Addr]struct{}{} // hosts by virtual subnet
	mark := func(vsid uint32, pa Addr) {
		if dirty[vsid] == nil {
			dirty[vsid] = map[Addr]struct{}{}
		}
		dirty[vsid][now.of(pa)] = struct{}{}
	}
	for k := range e.touched {
		mark(k.VSID(), k.ca)
	}
	lists := map[uint32][]Target{}
	for v := range dirty {
		lists[v] = e.d.Flood(v)
	}
	// Where it has changed which PAs are one host, start anew.
	if moved := regrouped(was, now); len(moved) > 0 {
		for _, v := range e.d.list {
			if !slices.ContainsFunc(moved, func(pa Addr) bool { return e.d.tallies.Get(Key{pa, pack(v)}) != nil }) {
				continue
			}
			for _, t := range e.d.Flood(v) {
				for _, pa := range was.pas(was.of(t.PA)) {
					mark(v, pa)
				}
			}
			lists[v] = nil
		}
	}
	for v, list := range lists {
		e.merge(v, list, dirty[v], now)
	}
}

// merge replaces the hosts of the list that are dirty.
func (e *floodEdit) merge(vsid uint32, list []Target, dirty map[Addr]struct{}, now *hosts) {
	type host struct {
		first Addr
		Target
	}
	fresh := make([]host, 0, len(dirty))
	same := len(list) > 0
	for first := range dirty {
		t, there := e.target(vsid, first, now)
		i, was := slices.BinarySearchFunc(list, first, func(t Target, f Addr) int { return now.of(t.PA).compare(f) })
		same = same && was == there && (!there || list[i] == t)
		fresh = append(fresh, host{first, t})
	}
	if same {
		return
	}
	slices.SortFunc(fresh, func(a, b host) int { return a.first.compare(b.first) })
	out := make([]Target, 0, len(list)+len(fresh))
	for _, h := range fresh {
		for len(list) > 0 && now.of(list[0].PA).compare(h.first) < 0 {
			out, list = append(out, list[0]), list[1:]
		}
		if len(list) > 0 && now.of(list[0].PA) == h.first {
			list = list[1:]
		}
		if h.PA.IsValid() {
			out = append(out, h.Target)
		}
	}
	if out = append(out, list...); len(out) == 0 {
		e.lists.Delete(Number(vsid))
		return
	}
	e.lists.Put(Number(vsid), slices.Clip(out))
}

// target sums up a host in a virtual subnet; false if it has no records there.
func (e *floodEdit) target(vsid uint32, first Addr, now *hosts) (t Target, there bool) {
	var sum tally
	most := uint32(0)
	for _, pa := range now.pas(first) {
		n := e.tallies.Get(Key{pa, pack(vsid)})
		if n == nil {
			continue
		}
		sum.nvgre, sum.vxlan, sum.l2only = sum.nvgre+n.nvgre, sum.vxlan+n.vxlan, sum.l2only+n.l2only
		if n.nvgre+n.vxlan > most {
			most, t.PA = n.nvgre+n.vxlan, pa
		}
	}
	switch {
	case most == 0:
		return Target{}, false
	case sum.nvgre > sum.vxlan:
		t.Rule = RuleNVGRE
	case sum.nvgre < sum.vxlan:
		t.Rule = RuleVXLAN
	default:
		t.Rule = e.d.Rule
	}
	t.L2Only = sum.l2only > 0
	return t, true
}
