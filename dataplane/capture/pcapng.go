package capture

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
)

// LinkType says what a packet begins with, by the numbers of
// draft-ietf-opsawg-pcaplinktype.
type LinkType uint16

// The link types.
const (
	Ethernet LinkType = 1
	RawIP    LinkType = 101 // IPv4 or IPv6 by the first four bits
)

// Direction is which way a packet crossed the interface that it was seen at, by
// the values of the first two bits of epb_flags.
type Direction uint8

// The directions. The zero Direction is not known.
const (
	Inbound  Direction = 1
	Outbound Direction = 2
)

// Block types (draft-ietf-opsawg-pcapng section 10.1).
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6
)

// Options (sections 3.5 and 4.1 to 4.6).
const (
	optEnd         = 0
	optComment     = 1
	shbApplication = 4
	ifName         = 2
	ifDescription  = 3
	ifResolution   = 9
	epbFlags       = 2
	epbDropCount   = 4
	isbDelivered   = 8
)

const (
	byteOrderMagic = 0x1a2b3c4d
	nanoseconds    = 9 // if_tsresol: a negative power of 10
	maxOption      = math.MaxUint16
)

// Interface describes where packets were seen.
type Interface struct {
	Name, Description string
	Link              LinkType
	SnapLen           uint32 // bytes kept of a packet; 0: all
}

// Packet is one packet as it goes into a file.
type Packet struct {
	Interface uint32 // as AddInterface gave it
	Time      int64  // nanoseconds since 1970
	Data      []byte // what was kept of it
	Length    int    // of the whole packet, in bytes
	Direction Direction
	Lost      uint64 // packets that this one should have come after
	Comment   string
}

// Writer writes one pcapng section (draft-ietf-opsawg-pcapng section 4): each
// block by one Write, little-endian, times in nanoseconds.
//
//	+--------------------+   +-----------------------+   +-----------------+
//	| section header     |   | interface description |   | enhanced packet |
//	| application,       |-->| name, link type,      |-->| data, comment,  |--> ...
//	| comment            |   | if_tsresol 9          |   | flags, dropcount|
//	+--------------------+   +-----------------------+   +-----------------+
//
// Interfaces may be added between packets. The first error is the last: what
// was written before it is a good file but for its last block.
type Writer struct {
	w          io.Writer
	buf        []byte
	interfaces uint32
	written    uint64
}

// NewWriter writes the section header. The comment may be empty.
func NewWriter(w io.Writer, application, comment string) (*Writer, error) {
	p := &Writer{w: w}
	p.begin(blockSection)
	p.u32(byteOrderMagic)
	p.u16(1) // version 1.0
	p.u16(0)
	p.u64(math.MaxUint64) // the section's length is not known
	p.text(optComment, comment)
	p.text(shbApplication, application)
	return p, p.end()
}

// Written is the number of bytes written.
func (p *Writer) Written() uint64 { return p.written }

// AddInterface describes an interface and gives the number that packets refer
// to it by.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                    Block Type = 0x00000001                    |
//	|                      Block Total Length                       |
//	|           LinkType            |           Reserved            |
//	|                            SnapLen                            |
//	|            Options: if_name, if_description, if_tsresol       |
//	|                      Block Total Length                       |
func (p *Writer) AddInterface(i Interface) (uint32, error) {
	p.begin(blockInterface)
	p.u16(uint16(i.Link))
	p.u16(0)
	p.u32(i.SnapLen)
	p.text(ifName, i.Name)
	p.text(ifDescription, i.Description)
	p.option(ifResolution, 1)
	p.buf = append(p.buf, nanoseconds, 0, 0, 0)
	if err := p.end(); err != nil {
		return 0, err
	}
	p.interfaces++
	return p.interfaces - 1, nil
}

// WritePacket writes an enhanced packet block.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                    Block Type = 0x00000006                    |
//	|                      Block Total Length                       |
//	|                         Interface ID                          |
//	|                  Timestamp: upper, then lower                 |
//	|                    Captured Packet Length                     |
//	|                    Original Packet Length                     |
//	|                  Packet Data, padded to 32 bits               |
//	|        Options: opt_comment, epb_flags, epb_dropcount         |
//	|                      Block Total Length                       |
func (p *Writer) WritePacket(k *Packet) error {
	if k.Interface >= p.interfaces {
		return fmt.Errorf("write packet: there is no interface %d yet", k.Interface)
	}
	p.begin(blockPacket)
	p.u32(k.Interface)
	p.time(k.Time)
	p.u32(uint32(len(k.Data)))
	p.u32(uint32(max(k.Length, len(k.Data))))
	p.buf = append(p.buf, k.Data...)
	p.pad()
	p.text(optComment, k.Comment)
	if k.Direction != 0 {
		p.option(epbFlags, 4)
		p.u32(uint32(k.Direction))
	}
	if k.Lost != 0 {
		p.option(epbDropCount, 8)
		p.u64(k.Lost)
	}
	return p.end()
}

// WriteStatistics writes an interface statistics block: what the file holds of
// an interface, up to the time.
func (p *Writer) WriteStatistics(iface uint32, time int64, packets uint64, comment string) error {
	if iface >= p.interfaces {
		return fmt.Errorf("write statistics: there is no interface %d yet", iface)
	}
	p.begin(blockStatistics)
	p.u32(iface)
	p.time(time)
	p.text(optComment, comment)
	p.option(isbDelivered, 8)
	p.u64(packets)
	return p.end()
}

func (p *Writer) u16(n uint16) { p.buf = binary.LittleEndian.AppendUint16(p.buf, n) }
func (p *Writer) u32(n uint32) { p.buf = binary.LittleEndian.AppendUint32(p.buf, n) }
func (p *Writer) u64(n uint64) { p.buf = binary.LittleEndian.AppendUint64(p.buf, n) }

// time writes a timestamp, whose upper half comes first in either byte order.
func (p *Writer) time(t int64) {
	p.u32(uint32(uint64(t) >> 32))
	p.u32(uint32(t))
}

func (p *Writer) pad() {
	for len(p.buf)%4 != 0 {
		p.buf = append(p.buf, 0)
	}
}

func (p *Writer) option(code uint16, length int) {
	p.u16(code)
	p.u16(uint16(length))
}

// text writes an option of UTF-8 text, none if it is empty.
func (p *Writer) text(code uint16, s string) {
	if s == "" {
		return
	}
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) > maxOption {
		s = strings.ToValidUTF8(s[:maxOption], "")
	}
	p.option(code, len(s))
	p.buf = append(p.buf, s...)
	p.pad()
}

// begin starts a block; its length is filled in by end.
func (p *Writer) begin(typ uint32) {
	p.buf = p.buf[:0]
	p.u32(typ)
	p.u32(0)
}

// end writes the block, behind whose options there is an end of them.
func (p *Writer) end() error {
	p.option(optEnd, 0)
	n := uint32(len(p.buf) + 4)
	p.u32(n)
	binary.LittleEndian.PutUint32(p.buf[4:], n)
	m, err := p.w.Write(p.buf)
	p.written += uint64(m)
	if err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}
