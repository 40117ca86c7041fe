package offload

// slots are the places of virtual subnets in the table of traffic. The first one
// is for those that have none.
type slots struct {
	of    map[uint32]uint32 // by VSID
	taken map[uint32]bool
	next  uint32
	max   uint32
}

func newSlots(max uint32) slots {
	return slots{of: map[uint32]uint32{}, taken: map[uint32]bool{0: true}, max: max}
}

func (s *slots) take(vsid, slot uint32) { s.of[vsid], s.taken[slot] = slot, true }

// get gives the VSID's slot; a fresh one has what another VSID counted.
func (s *slots) get(vsid uint32) (slot uint32, fresh bool, err error) {
	if slot, ok := s.of[vsid]; ok {
		return slot, false, nil
	}
	if uint32(len(s.taken)) >= s.max {
		return 0, false, fullError{s.max - 1, "virtual subnets"}
	}
	for s.taken[s.next] {
		s.next = (s.next + 1) % s.max
	}
	s.take(vsid, s.next)
	return s.next, true, nil
}

func (s *slots) free(vsid uint32) {
	if slot, ok := s.of[vsid]; ok {
		delete(s.of, vsid)
		delete(s.taken, slot)
	}
}
