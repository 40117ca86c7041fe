package packet

import "github.com/hnvgate/hnvgate/dataplane/drop"

// Plain makes of a frame those that a port takes which can neither cut
// super-packets nor make checksums:
//
//	var p packet.Plain
//	if r := p.Start(f); r != drop.None { ... }
//	for p.Left() > 0 {
//		out := p.Next(spare) // f itself, or spare
//		if out == nil { ... } // spare is too small
//	}
//
// A super-packet is read until the last frame is taken.
type Plain struct {
	segments Segments
	whole    *Frame // is complete, and not taken yet
}

// Start takes an Ethernet frame, completing its checksum if it is not to be cut.
func (p *Plain) Start(f *Frame) drop.Reason {
	p.segments, p.whole = Segments{}, nil
	if f.Offload.GSO != GSONone {
		return p.segments.Start(f)
	}
	if !CompleteChecksum(f) {
		return drop.ChecksumUnsupported
	}
	f.Offload = Offload{}
	p.whole = f
	return drop.None
}

// Left is the number of frames not yet taken.
func (p *Plain) Left() int {
	if p.whole != nil {
		return 1
	}
	return p.segments.Left()
}

// Spare is how many bytes a spare frame must hold; 0: Next needs none.
func (p *Plain) Spare() int {
	s := &p.segments
	return min(len(s.frame), s.header+s.size)
}

// Next gives the next frame: the one that was given to Start, if nothing needed
// to be cut, or spare, made the next segment. nil if there is none left, or if
// spare is too small: the segment is given again then.
func (p *Plain) Next(spare *Frame) *Frame {
	if f := p.whole; f != nil {
		p.whole = nil
		return f
	}
	if p.segments.Left() == 0 || !p.segments.Next(spare) {
		return nil
	}
	return spare
}
