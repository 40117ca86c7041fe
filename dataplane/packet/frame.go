package packet

// Headroom is the room in front of a fresh Frame. The greatest encapsulation,
// outer Ethernet and IPv6 with VXLAN, takes 84 bytes of it.
const Headroom = 128

// MaxPacket is the greatest length of an IP packet, and so of a super-packet
// that the kernel hands over in one piece.
const MaxPacket = 65535

// Frame is one packet in its own buffer with room in front for encapsulation.
//
//	Buf  0            Off                           End          cap
//	     |  headroom   |  the packet: Bytes()        |  tailroom  |
//
// A Frame is reused, never shared: the slices it gives are valid until it is
// next changed.
type Frame struct {
	Buf      []byte // the whole buffer
	Off, End int    // the packet is Buf[Off:End]
	Offload  Offload
}

// GSOType is the kind of a super-packet: how it is to be cut. The values are
// those of VIRTIO_NET_HDR_GSO_* in virtio 1.2 section 5.1.6.
type GSOType uint8

// The kinds of super-packets.
const (
	GSONone  GSOType = 0
	GSOTCPv4 GSOType = 1
	GSOTCPv6 GSOType = 4
	GSOUDP   GSOType = 5 // whole datagrams of GSOSize (UDP_L4), not fragments
)

// Offload is what is left to do to a frame before it fits a wire; it has the
// meaning of struct virtio_net_hdr. CsumStart counts from Off.
//
// Where NeedsCsum is set, the field at CsumStart+CsumOffset holds the sum of
// the pseudo-header, and the sum from CsumStart to the end of the frame is
// still to be added.
type Offload struct {
	NeedsCsum             bool
	CsumStart, CsumOffset uint16
	GSO                   GSOType
	ECN                   bool // the super-packet's first segment carries CWR
	GSOSize               uint16
	HdrLen                uint16 // a hint, never beyond the frame
}

// NewFrame makes an empty frame that holds packets of up to capacity bytes
// behind the Headroom.
func NewFrame(capacity int) *Frame {
	f := &Frame{Buf: make([]byte, Headroom+capacity)}
	f.Reset()
	return f
}

// Reset empties the frame and makes room in front again.
func (f *Frame) Reset() {
	f.Off, f.End = min(Headroom, len(f.Buf)), min(Headroom, len(f.Buf))
	f.Offload = Offload{}
}

// Bytes is the packet, valid until the frame is next changed.
func (f *Frame) Bytes() []byte { return f.Buf[f.Off:f.End] }

// Len is the packet's length.
func (f *Frame) Len() int { return f.End - f.Off }

// Set resets the frame and copies b in; it tells whether b fits.
func (f *Frame) Set(b []byte) bool {
	f.Reset()
	if len(b) > len(f.Buf)-f.Off {
		return false
	}
	f.End = f.Off + copy(f.Buf[f.Off:], b)
	return true
}

// Clone makes dst a copy of the packet, with what is left to do to it and with
// room in front; false if it does not fit.
func (f *Frame) Clone(dst *Frame) bool {
	if !dst.Set(f.Bytes()) {
		return false
	}
	dst.Offload = f.Offload
	return true
}

// Append grows the packet by n bytes at its end and gives them, not cleared;
// nil, and no change, if there is no room.
func (f *Frame) Append(n int) []byte {
	if n < 0 || n > len(f.Buf)-f.End {
		return nil
	}
	f.End += n
	return f.Buf[f.End-n : f.End : f.End]
}

// Prepend grows the packet by n bytes in front and gives them, not cleared;
// nil, and no change, if there is no room. The Offload goes on meaning the
// bytes it meant.
func (f *Frame) Prepend(n int) []byte {
	if n < 0 || n > f.Off {
		return nil
	}
	if f.Offload.NeedsCsum {
		if n > MaxPacket-int(f.Offload.CsumStart) {
			return nil
		}
		f.Offload.CsumStart += uint16(n)
	}
	if f.Offload.HdrLen != 0 {
		f.Offload.HdrLen = uint16(min(MaxPacket, int(f.Offload.HdrLen)+n))
	}
	f.Off -= n
	return f.Buf[f.Off : f.Off+n : f.Off+n]
}

// TrimFront cuts n bytes off the front; false, and no change, if there are not
// as many. The Offload goes on meaning the bytes it meant. A partial checksum
// among the bytes cut off, the one of an outer UDP header, goes with them: the
// one who made it had already completed those within.
func (f *Frame) TrimFront(n int) bool {
	if n < 0 || n > f.Len() {
		return false
	}
	f.Off += n
	o := &f.Offload
	switch {
	case !o.NeedsCsum:
	case int(o.CsumStart) >= n:
		o.CsumStart -= uint16(n)
	default:
		o.NeedsCsum, o.CsumStart, o.CsumOffset = false, 0, 0
	}
	o.HdrLen = uint16(max(0, int(o.HdrLen)-n))
	return true
}

// TrimBack shortens the packet to its first n bytes; false, and no change, if
// it is shorter already or if a partial checksum would be cut off.
func (f *Frame) TrimBack(n int) bool {
	if n < 0 || n > f.Len() {
		return false
	}
	if o := f.Offload; o.NeedsCsum && int(o.CsumStart)+int(o.CsumOffset)+2 > n {
		return false
	}
	f.End = f.Off + n
	f.Offload.HdrLen = uint16(min(n, int(f.Offload.HdrLen)))
	return true
}
