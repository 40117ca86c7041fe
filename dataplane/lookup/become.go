package lookup

import "github.com/hnvgate/hnvgate/hnv"

// Become makes the successor of d that has exactly these records. Where d has
// others besides, or one that was configured where a Dynamic one shall be, it is
// not ok: then a Build is due.
func (d *Domain) Become(records []hnv.Record) (next *Domain, ok bool) {
	for i := range records {
		r := &records[i]
		if r.Type != hnv.Dynamic || !r.CA.IsValid() {
			continue
		}
		if had := d.Record(r.VSID.Uint32(), r.CA); had != nil && had.Type != Dynamic {
			return nil, false
		}
	}
	next, err := d.Update(records, nil)
	if err != nil || next.Records() != len(records) {
		return nil, false
	}
	return next, true
}

// Dynamics calls yield for every record that was learned.
func (d *Domain) Dynamics(yield func(r hnv.Record)) {
	for k, rec := range d.records.All {
		if rec.Type != Dynamic {
			continue
		}
		v, err := hnv.NewVSID(k.VSID())
		if err != nil {
			continue
		}
		mac, err := hnv.MACFrom(rec.MAC)
		if err != nil {
			continue
		}
		r := hnv.Record{VSID: v, CA: k.CA(), MAC: mac, PA: rec.PA.Netip(), Rule: rec.Rule.Hnv(), Type: hnv.Dynamic, UseVMMAC: rec.UseVMMAC}
		for _, pa := range d.PAs(&rec)[1:] {
			r.TeamPAs = append(r.TeamPAs, pa.Netip())
		}
		yield(r)
	}
}
