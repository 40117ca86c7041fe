package s2s

import "time"

// Pace of a pathSearch.
const (
	// sizeTries of one size in a row must be lost for it to be too big, with all but
	// one of the small ones beside them answered: a limit that drops here and there is
	// no narrow path.
	sizeTries = 5
	// sizeStep: sizes between the least and the most are multiples of it, as
	// WireGuard fills packets up to such.
	sizeStep = 16
	// confirmSize is how often what is taken to pass is tried again.
	confirmSize = time.Minute
)

// pathSearch finds how large a packet may be that gets through a tunnel to a peer, by
// echo requests of that size: a path may drop what is too big and say nothing (RFC
// 8899 has the method, RFC 2923 (2.1) what happens else). While tenants' packets are
// being lost the tunnel is taken for the narrowest that there is, MinMTU, and what
// passes is looked for from there.
//
//	at rest --due--> tries the size that is taken to pass
//	tries --answered--> at rest, or tries a larger one that may pass
//	tries --lost, and small ones are not--> tries a smaller one
//	tries --lost, and small ones too--> at rest: the peer answers no such requests
//
// It asks to send nothing by itself: tick is called once a second.
type pathSearch struct {
	passes int // the largest size found to pass; 0: as large as the kernel knows
	fails  int // the least found not to, while searching between the two

	most  int       // what the kernel takes the tunnel for
	size  int       // being tried; 0: at rest
	lost  int       // of this size
	small int       // of those sent beside it: answered
	due   time.Time // end of the rest
	raise time.Time // from when larger sizes are tried again
}

// tick gives the sizes to be sent now, for a tunnel that the kernel takes for one of
// the MTU most. A peer that does not answer small requests is not asked.
func (s *pathSearch) tick(now time.Time, most int, alive bool) []int {
	if s.passes >= most {
		s.passes = 0 // the kernel has found it out
	}
	if !alive || most <= MinMTU || s.most != most {
		s.most, s.size, s.fails = most, 0, 0
		if !alive || most <= MinMTU {
			return nil
		}
	}
	switch {
	case s.size == 0 && now.Before(s.due):
		return nil
	case s.size == 0:
		s.begin(now)
	default:
		s.missed(now)
	}
	switch s.size {
	case 0:
		return nil
	case MinMTU:
		return []int{MinMTU}
	}
	return []int{s.size, MinMTU}
}

func (s *pathSearch) begin(now time.Time) {
	s.fails = 0
	if s.passes == 0 || !now.Before(s.raise) {
		s.try(s.most)
		return
	}
	s.try(s.passes)
}

func (s *pathSearch) try(size int) { s.size, s.lost, s.small = size, 0, 0 }

func (s *pathSearch) rest(now time.Time) { s.size, s.fails, s.due = 0, 0, now.Add(confirmSize) }

// missed: what was sent at the last tick has not been answered.
func (s *pathSearch) missed(now time.Time) {
	if s.lost++; s.lost < sizeTries {
		return
	}
	if s.size == MinMTU || s.small < sizeTries-1 {
		s.rest(now) // nobody answers requests of any size: nothing is known
		return
	}
	s.fails = s.size
	if s.passes == 0 || s.passes >= s.size {
		s.passes = MinMTU
	}
	s.next(now)
}

// answered is told of an answer to a request of the size.
func (s *pathSearch) answered(size int, now time.Time) {
	if size == MinMTU {
		s.small++
	}
	if size != s.size {
		return
	}
	switch {
	case size == s.most:
		s.passes = 0
		s.rest(now)
	case s.fails == 0: // it was to be confirmed
		s.rest(now)
	default:
		s.passes = size
		s.next(now)
	}
}

// next tries the middle of what is not known, or ends the search.
func (s *pathSearch) next(now time.Time) {
	middle := (s.passes + s.fails) / 2 / sizeStep * sizeStep
	if middle <= s.passes {
		s.raise = now.Add(keepNarrow)
		s.rest(now)
		return
	}
	s.try(middle)
}
