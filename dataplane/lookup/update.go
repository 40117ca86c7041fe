package lookup

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
)

// Update makes the successor of d in which del are gone and then put are set. A
// Dynamic record in the place of one that was configured is passed over: what was
// configured wins. Mappings of what changed are re-aimed before Update returns.
func (d *Domain) Update(put []hnv.Record, del []hnv.RecordKey) (*Domain, error) {
	refuse := func(k string, err error) (*Domain, error) {
		return nil, fmt.Errorf("routing domain %s: lookup record %s: %w", d.RDID, k, err)
	}
	for i := range put {
		if err := d.admits(&put[i]); err != nil {
			return refuse(put[i].Key(), err)
		}
	}
	u := d.edit()
	if len(put) > d.Records() {
		u.records.Grow(len(put))
		u.stations.stations.Grow(len(put))
	}
	for _, k := range del {
		u.delete(k)
	}
	for i := range put {
		if err := u.put(&put[i]); err != nil {
			return refuse(put[i].Key(), err)
		}
	}
	next := u.done()
	next.succeed(d, changes{put, del})
	return next, nil
}

func (d *Domain) admits(r *hnv.Record) error {
	switch {
	case !d.Has(r.VSID.Uint32()):
		return fmt.Errorf("VSID %s is not one of the domain's", r.VSID)
	case !r.PA.IsValid() || !r.MAC.IsValid() || ruleFrom(r.Rule) == 0 || typeFrom(r.Type) == 0:
		return fmt.Errorf("the PA, the MAC address, the rule or the type is missing")
	case len(r.TeamPAs) > hnv.MaxTeamPAs:
		return fmt.Errorf("it names %d further PAs, at most %d are taken", len(r.TeamPAs), hnv.MaxTeamPAs)
	case slices.ContainsFunc(r.TeamPAs, func(a netip.Addr) bool { return a.Is4() != r.PA.Is4() || !a.IsValid() }):
		return fmt.Errorf("the PAs of its team are not all of one address family")
	case !r.CA.IsValid() && r.Type == hnv.L2Only:
		return nil
	}
	rt := d.Route(r.CA)
	if rt != nil && rt.Cover != nil {
		rt = rt.Cover
	}
	switch {
	case rt == nil || !rt.OnLink() || rt.VSID != r.VSID.Uint32():
		return fmt.Errorf("the CA is outside the prefixes of VSID %s", r.VSID)
	case rt.Gateway == r.CA:
		return fmt.Errorf("the CA is the distributed router's")
	}
	return nil
}

// update is a successor in the making.
type update struct {
	d        *Domain
	records  *Editor[Key, Record]
	l2only   *Editor[nic, Record]
	pas      *Editor[Addr, uint32]
	stations stationEdit
	flood    floodEdit
	rewrites *Editor[Addr, claims]

	teams   *teams // as d's until one is added or removed
	teamUse *Editor[Number, uint32]
	idle    map[uint16]struct{} // teams that may be in use no more

	wild map[Key]struct{} // keys that are, or were, GatewayWildcard
}

func (d *Domain) edit() *update {
	return &update{
		d:        d,
		records:  d.records.Edit(),
		l2only:   d.l2only.Edit(),
		pas:      d.pas.Edit(),
		stations: d.editStations(),
		flood:    d.editFlood(),
		rewrites: d.rewrites.Edit(),
		teams:    d.teams,
		teamUse:  d.teamUse.Edit(),
	}
}

func (u *update) delete(k hnv.RecordKey) {
	if !k.CA.IsValid() {
		if old, had := u.l2only.Delete(nicOf(k.VSID.Uint32(), k.MAC.Bytes())); had {
			u.count(pack(k.VSID.Uint32()), &old, leaves)
		}
		return
	}
	key := KeyOf(k.VSID.Uint32(), k.CA)
	if old, had := u.records.Delete(key); had {
		u.countCA(key, &old, leaves)
	}
}

func (u *update) put(r *hnv.Record) error {
	team, err := u.team(r)
	if err != nil {
		return err
	}
	v := r.VSID.Uint32()
	rec := Record{PA: AddrFrom(r.PA), MAC: r.MAC.Bytes(), Rule: ruleFrom(r.Rule), UseVMMAC: r.UseVMMAC, Type: typeFrom(r.Type), Team: team}
	if !r.CA.IsValid() {
		n := nicOf(v, rec.MAC)
		if p := u.l2only.Get(n); p != nil {
			if *p == rec {
				return nil
			}
			u.count(n.vsid, p, leaves)
		}
		u.l2only.Put(n, rec)
		u.count(n.vsid, &rec, enters)
		return nil
	}
	k := KeyOf(v, r.CA)
	if p := u.records.Get(k); p != nil {
		if *p == rec || rec.Type == Dynamic && p.Type != Dynamic {
			return nil
		}
		old := *p
		u.countCA(k, &old, leaves)
	}
	u.records.Put(k, rec)
	u.countCA(k, &rec, enters)
	return nil
}

// countCA adds the record of a CA to all that is derived from records, or takes
// it out.
func (u *update) countCA(k Key, r *Record, n uint32) {
	u.count(k.vsid, r, n)
	u.stations.count(nic{k.vsid, r.MAC}, r, n)
	if r.Rule == RuleRewrite {
		claim(u.rewrites, r.PA, k, n)
	}
	if r.Type == Wildcard {
		if u.wild == nil {
			u.wild = map[Key]struct{}{}
		}
		u.wild[k] = struct{}{}
	}
}

// What a record does to a count.
const (
	enters uint32 = 1
	leaves        = ^uint32(0)
)

// count adds one record to what is known of its host, or takes it out.
func (u *update) count(vsid [3]byte, r *Record, n uint32) {
	u.flood.count(vsid, r, n)
	if r.Team == 0 {
		count(u.pas, r.PA, n)
		return
	}
	for _, pa := range u.teams.of(r.Team) {
		count(u.pas, pa, n)
	}
	if count(u.teamUse, Number(r.Team), n) == 0 {
		u.rest(r.Team)
	}
}

func count[K Hashable](e *Editor[K, uint32], k K, n uint32) uint32 {
	p, _ := e.Own(k)
	*p += n
	sum := *p
	if sum == 0 {
		e.Delete(k)
	}
	return sum
}

// team finds the number of the record's team, or gives it one.
func (u *update) team(r *hnv.Record) (uint16, error) {
	if len(r.TeamPAs) == 0 {
		return 0, nil
	}
	pas := make([]Addr, 0, 1+len(r.TeamPAs))
	pas = append(pas, AddrFrom(r.PA))
	for _, a := range r.TeamPAs {
		if pa := AddrFrom(a); !slices.Contains(pas, pa) {
			pas = append(pas, pa)
		}
	}
	if len(pas) == 1 {
		return 0, nil
	}
	slices.SortFunc(pas[1:], Addr.compare)
	var k teamKey
	copy(k[:], pas)
	if id, ok := u.teams.ids[k]; ok {
		return id, nil
	}
	u.unshareTeams()
	id, err := u.teams.add(k, slices.Clip(pas))
	if err == nil {
		u.rest(id) // until a record is found to be in it
	}
	return id, err
}

func (u *update) unshareTeams() {
	if u.teams == u.d.teams {
		u.teams = u.d.teams.clone()
	}
}

func (u *update) rest(team uint16) {
	if u.idle == nil {
		u.idle = map[uint16]struct{}{}
	}
	u.idle[team] = struct{}{}
}

// done gives the successor.
func (u *update) done() *Domain {
	for id := range u.idle {
		if u.teamUse.Get(Number(id)) == nil {
			u.unshareTeams()
			u.teams.remove(id)
		}
	}
	if u.teams != u.d.teams {
		u.teams.hosts = u.teams.joined()
	}
	u.stations.settle(u.teams)
	u.flood.settle(&u.teams.hosts)
	next := *u.d
	next.wild = u.d.wildcards(u.wild, u.records)
	next.records, next.l2only = u.records.Done(), u.l2only.Done()
	next.stations, next.split = u.stations.stations.Done(), u.stations.split.Done()
	next.pas, next.teams, next.teamUse = u.pas.Done(), u.teams, u.teamUse.Done()
	next.tallies, next.flood = u.flood.tallies.Done(), u.flood.lists.Done()
	next.rewrites = u.rewrites.Done()
	return &next
}
