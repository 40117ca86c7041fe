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
