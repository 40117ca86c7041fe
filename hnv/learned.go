package hnv

// Record finds a lookup record.
func (f *Fabric) Record(k RecordKey) (Record, bool) {
	r, ok := f.records[k.VSID][k]
	return r, ok
}

// DynamicRecords gives the lookup records that were learned, in no order.
func (f *Fabric) DynamicRecords() []Record {
	var out []Record
	for _, m := range f.records {
		for _, r := range m {
			if r.Type == Dynamic {
				out = append(out, r)
			}
		}
	}
	return out
}

// StationRecords gives the lookup records of a MAC in a virtual subnet that has
// learned or L2Only records, in no order, without a walk over all records. In
// others it gives none.
func (f *Fabric) StationRecords(v VSID, mac MAC) []Record {
	var out []Record
	for _, k := range f.index.stations[v][mac] {
		out = append(out, f.records[v][k])
	}
	return out
}
