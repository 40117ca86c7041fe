package hnv

// contradictions finds pairs of rules of which one can have no effect.
func (a ACL) contradictions() error {
	seen := map[Direction]map[uint16]*ACLRule{Inbound: {}, Outbound: {}}
	for i := range a.Rules {
		r := &a.Rules[i]
		if o := seen[r.Direction][r.Priority]; o != nil {
			return invalidf("ACL %s: two %s rules have priority %d (%s and %s): which comes first?", a.Key(), r.Direction, r.Priority, o.Action, r.Action)
		}
		seen[r.Direction][r.Priority] = r
	}
	return nil
}
