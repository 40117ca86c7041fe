package drop

// Reason is why a packet was dropped. The zero value, None, means it was not.
// Reasons are small and dense: a table of counters is a [Count]uint64.
type Reason uint8

// String gives the name as it stands in metrics and the API: "outer-checksum".
func (r Reason) String() string {
	if int(r) >= Count {
		return "unknown"
	}
	return table[r].name
}

// Meaning says the reason in one English sentence.
func (r Reason) Meaning() string {
	if int(r) >= Count {
		return ""
	}
	return table[r].meaning
}

// Source names the document that asks for the drop, or "" where none does.
func (r Reason) Source() string {
	if int(r) >= Count {
		return ""
	}
	return table[r].source
}

// All gives every reason but None, in numeric order.
func All() []Reason {
	all := make([]Reason, 0, Count-1)
	for r := Reason(1); int(r) < Count; r++ {
		all = append(all, r)
	}
	return all
}

// Parse finds the reason of a name.
func Parse(name string) (Reason, bool) {
	for r := range table {
		if table[r].name == name {
			return Reason(r), true
		}
	}
	return None, false
}
