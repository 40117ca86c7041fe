package flow

// Stats is what has happened to a table since it was made.
type Stats struct {
	Flows   int             // there are now
	Hits    uint64          // packets counted by Hit
	Misses  uint64          // lookups that found nothing
	Inserts uint64          // flows added
	Evicted [Reasons]uint64 // flows removed, by reason
	Full    uint64          // flows refused with ErrFull
}

// Stats adds the counters up. It visits every flow, as nothing that all workers
// write is counted for each packet: for metrics, not for packets. What happens
// meanwhile may be in some of the numbers and not yet in others.
func (t *Table[A]) Stats() Stats {
	s := Stats{Flows: t.Len(), Hits: t.retired.Load(), Inserts: t.inserts.Load(), Full: t.full.Load()}
	for e := range t.All {
		s.Hits += e.packets.Load()
		if p := e.Peer(); p != nil {
			s.Hits += p.packets.Load()
		}
	}
	for i := range t.shards {
		s.Misses += t.shards[i].misses.Load()
	}
	for r := range s.Evicted {
		s.Evicted[r] = t.evicted[r].Load()
	}
	return s
}
