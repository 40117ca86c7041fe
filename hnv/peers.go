package hnv

import (
	"net/netip"
	"slices"
	"strings"
)

// checkPeers looks at what the other records have to do with one that was put:
// those of the same MAC, and those that name its PAs.
func (f *Fabric) checkPeers(k RecordKey) error {
	r, ok := f.records[k.VSID][k]
	if !ok {
		return nil // a later change of the same set took it
	}
	for _, o := range f.index.stations[r.VSID][r.MAC] {
		if o == k {
			continue
		}
		if err := sameStation(r, f.records[o.VSID][o]); err != nil {
			return err
		}
	}
	if err := f.rewriteAlone(r.PA); err != nil {
		return err
	}
	for _, pa := range r.TeamPAs {
		if err := f.rewriteAlone(pa); err != nil {
			return err
		}
	}
	return nil
}

// sameStation refuses two records of one MAC in one VSID of which at least one
// is bound to the other and that place it differently. Two that operators wrote
// by CA may differ: a VM with several moves record by record.
func sameStation(a, b Record) error {
	if !a.bound() && !b.bound() {
		return nil
	}
	l2 := a.Type == L2Only || b.Type == L2Only
	if samePAs(a, b) && (a.Rule == b.Rule || !l2) {
		return nil
	}
	where := func(r Record) string {
		return "(" + string(r.Type) + ") is at " + paText(r) + " by " + string(r.Rule)
	}
	return conflictf("lookup records of one station contradict each other: MAC %s of VSID %s with %s %s, with %s %s: change both in one step, or delete one",
		a.MAC, a.VSID, a.Key(), where(a), b.Key(), where(b))
}

func paText(r Record) string {
	var out []string
	for _, p := range r.PAs() {
		out = append(out, p.String())
	}
	return strings.Join(out, "+")
}

// rewriteAlone refuses a PA that stands for one CA by rewriting and for anything
// else too: what comes to it carries nothing that tells the two apart.
func (f *Fabric) rewriteAlone(pa netip.Addr) error {
	u := f.index.pas[pa]
	if u.rewrites == 0 {
		return nil
	}
	if t, ok := f.gatewayTenant(pa); ok {
		r := f.namers(pa, true)[0]
		return conflictf("provider address %s is that of lookup record %s by rewriting, and this gateway's own for its compartments, as of tenant %s: a rewritten address needs one for itself",
			pa, f.whose(r), t)
	}
	if u.records == 1 {
		return nil
	}
	rewritten := f.namers(pa, true)[0]
	other := f.namers(pa, false)
	o := other[slices.IndexFunc(other, func(r Record) bool { return r.RecordKey() != rewritten.RecordKey() })]
	return conflictf("provider address %s is that of lookup record %s by rewriting, and of lookup record %s by %s: a rewritten address needs one for itself",
		pa, f.whose(rewritten), f.whose(o), o.Rule)
}

// gatewayTenant names a tenant whose compartment on this machine is reached at
// the PA.
func (f *Fabric) gatewayTenant(pa netip.Addr) (Name, bool) {
	if own, ok := f.GatewayPA(); !ok || own != pa {
		return Name{}, false
	}
	for _, t := range f.Tenants() {
		if t.Gateway != nil {
			return t.Name, true
		}
	}
	return Name{}, false
}

// namers gives the records that name a PA, all or those that rewrite, in a
// stable order. It walks over all records: only for saying why not.
func (f *Fabric) namers(pa netip.Addr, rewriting bool) []Record {
	var out []Record
	for _, m := range f.records {
		for _, r := range m {
			if r.isAt([]netip.Addr{pa}) && (!rewriting || r.Rule == RuleRewrite) {
				out = append(out, r)
			}
		}
	}
	slices.SortFunc(out, compareRecords)
	return out
}

// whose names a record with its tenant.
func (f *Fabric) whose(r Record) string { return r.Key() + " of tenant " + f.owners[r.VSID].String() }
