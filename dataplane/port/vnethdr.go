package port

import (
	"encoding/binary"
	"errors"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// The header that PACKET_VNET_HDR puts before each frame, struct virtio_net_hdr
// in the byte order of the machine:
//
//	 0      1      2           4           6           8           10
//	+------+------+-----------+-----------+-----------+-----------+
//	|flags | type | hdr_len   | gso_size  |csum_start |csum_offset|
//	+------+------+-----------+-----------+-----------+-----------+
const vnetHdrLen = 10

const (
	vnetNeedsCsum = 1 << 0 // flags: the checksum at csum_start+csum_offset is partial
	vnetECN       = 0x80   // type: a bit beside the number
)

const (
	tcpMinLen  = 20
	tcpDataOff = 12 // its high nibble counts 32-bit words
	udpLen     = 8
)

var (
	errUnsupported = errors.New("offload unsupported")
	errOffload     = errors.New("offload outside the frame")
)

// parseVnetHdr reads b, at least vnetHdrLen bytes, which the kernel wrote before
// a frame of n bytes. It refuses what packet.Offload cannot say and what does
// not lie within the frame.
func parseVnetHdr(b []byte, n int, o *packet.Offload) error {
	b = b[:vnetHdrLen]
	*o = packet.Offload{}
	if b[0]&vnetNeedsCsum != 0 {
		o.NeedsCsum = true
		o.CsumStart = binary.NativeEndian.Uint16(b[6:])
		o.CsumOffset = binary.NativeEndian.Uint16(b[8:])
		if int(o.CsumStart)+int(o.CsumOffset)+2 > n {
			return errOffload
		}
	}
	o.GSO = packet.GSOType(b[1] &^ vnetECN)
	switch o.GSO {
	case packet.GSONone:
		return nil
	case packet.GSOTCPv4, packet.GSOTCPv6, packet.GSOUDP:
	default: // old fragmentation of UDP, which the kernel no longer makes
		return errUnsupported
	}
	o.ECN = b[1]&vnetECN != 0
	o.GSOSize = binary.NativeEndian.Uint16(b[4:])
	// The kernel's hdr_len only tells how much of its buffer was linear; what
	// the headers really take is found in the frame when it is written.
	o.HdrLen = uint16(min(n, int(binary.NativeEndian.Uint16(b[2:]))))
	if o.GSOSize == 0 {
		return errOffload
	}
	return nil
}

// putVnetHdr writes the header for the frame into b. It refuses an Offload that
// does not fit the frame.
func putVnetHdr(b []byte, o *packet.Offload, frame []byte) bool {
	b = b[:vnetHdrLen]
	clear(b)
	if o.NeedsCsum {
		if int(o.CsumStart)+int(o.CsumOffset)+2 > len(frame) {
			return false
		}
		b[0] = vnetNeedsCsum
		binary.NativeEndian.PutUint16(b[6:], o.CsumStart)
		binary.NativeEndian.PutUint16(b[8:], o.CsumOffset)
	}
	if o.GSO == packet.GSONone {
		return true
	}
	hdrLen := gsoHeaderLen(o, frame)
	if o.GSOSize == 0 || hdrLen == 0 {
		return false
	}
	b[1] = byte(o.GSO)
	if o.ECN {
		b[1] |= vnetECN
	}
	binary.NativeEndian.PutUint16(b[2:], uint16(hdrLen))
	binary.NativeEndian.PutUint16(b[4:], o.GSOSize)
	return true
}

// gsoHeaderLen gives the length of all headers up to the payload that is to be
// segmented, or 0 where they do not fit the frame. The transport header starts
// where the checksum does; Offload.HdrLen is not asked, for it is stale as soon
// as headers were added or removed.
func gsoHeaderLen(o *packet.Offload, frame []byte) int {
	if !o.NeedsCsum {
		return 0
	}
	n := int(o.CsumStart)
	switch o.GSO {
	case packet.GSOUDP:
		n += udpLen
	case packet.GSOTCPv4, packet.GSOTCPv6:
		if n+tcpMinLen > len(frame) {
			return 0
		}
		words := int(frame[n+tcpDataOff] >> 4)
		if words < tcpMinLen/4 {
			return 0
		}
		n += words * 4
	default:
		return 0
	}
	if n > len(frame) {
		return 0
	}
	return n
}
