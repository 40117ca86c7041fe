package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// The bounds of what Reader takes in.
const (
	maxBlock      = 1 << 20
	maxRecord     = 1 << 18 // what the tools that write such files allow a packet
	maxIDs        = 1 << 16 // interfaces of a section
	maxCommentLen = 1 << 12
)

// ErrFormat is of files that are neither pcapng nor pcap, or are broken.
var ErrFormat = errors.New("no capture file")

// Record is a packet of a file.
type Record struct {
	Number    int   // from 1 on, as tshark counts
	Time      int64 // nanoseconds since 1970; 0 where the file says nothing
	Link      LinkType
	Interface string // its name; empty where the file says nothing
	Data      []byte // as much as was kept; valid until the next Next
	Length    int    // of the whole packet
	Direction Direction
	Comment   string
}

// Reader reads the packets of a capture file of either format: pcapng
// (draft-ietf-opsawg-pcapng), with all its sections, and the older pcap
// (draft-ietf-opsawg-pcap). Blocks that hold no packets are passed over.
type Reader struct {
	r      *bufio.Reader
	order  binary.ByteOrder
	next   func(*Record) error
	number int
	buf    []byte

	ifaces []readInterface // of the section
}

type readInterface struct {
	name    string
	link    LinkType
	snap    uint32
	second  uint64 // how many units of a timestamp are one
	seconds int64  // to add to timestamps
}

// NewReader finds out which format r is of.
func NewReader(r io.Reader) (*Reader, error) {
	p := &Reader{r: bufio.NewReaderSize(r, 1<<16)}
	b, err := p.r.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("read capture: it is too short: %w", ErrFormat)
	}
	if binary.LittleEndian.Uint32(b) == blockSection { // the same both ways
		p.next = p.nextBlock
		return p, nil
	}
	if err := p.classicHeader(); err != nil {
		return nil, fmt.Errorf("read capture: %w", err)
	}
	return p, nil
}

// Next gives the next packet, or io.EOF behind the last one. A file that was cut
// off in the middle of a packet ends with ErrFormat.
func (p *Reader) Next() (Record, error) {
	k := Record{Number: p.number + 1}
	switch err := p.next(&k); {
	case errors.Is(err, io.EOF):
		return Record{}, io.EOF
	case err != nil:
		return Record{}, fmt.Errorf("read capture: packet %d: %w", k.Number, err)
	}
	p.number++
	return k, nil
}

func broken(format string, a ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), ErrFormat)
}

// read gives the next n bytes.
func (p *Reader) read(n int) ([]byte, error) {
	if cap(p.buf) < n {
		p.buf = make([]byte, n)
	}
	p.buf = p.buf[:n]
	if _, err := io.ReadFull(p.r, p.buf); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, broken("the file ends in the middle of it")
		}
		return nil, err
	}
	return p.buf, nil
}

// rest is read for what must be there.
func (p *Reader) rest(n int) ([]byte, error) {
	b, err := p.read(n)
	if errors.Is(err, io.EOF) {
		err = broken("the file ends in the middle of it")
	}
	return b, err
}

// The first word of a pcap file, by the unit of its timestamps.
const (
	classicMicro = 0xa1b2c3d4
	classicNano  = 0xa1b23c4d
)

// classicHeader reads what a pcap file begins with.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                          Magic Number                         |
//	|          Major Version        |         Minor Version         |
//	|                           Reserved1                           |
//	|                           Reserved2                           |
//	|                            SnapLen                            |
//	| FCS |f|0 0 0 0 0 0 0 0 0 0 0 0|         LinkType              |
func (p *Reader) classicHeader() error {
	b, err := p.rest(24)
	if err != nil {
		return err
	}
	unit := uint64(0)
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch order.Uint32(b) {
		case classicMicro:
			p.order, unit = order, 1e6
		case classicNano:
			p.order, unit = order, 1e9
		}
	}
	if p.order == nil {
		return fmt.Errorf("it begins with neither of pcapng's and pcap's magic numbers: %w", ErrFormat)
	}
	if v := p.order.Uint16(b[4:]); v != 2 {
		return broken("version %d of the pcap format is unknown", v)
	}
	p.ifaces = []readInterface{{link: LinkType(p.order.Uint32(b[20:])), second: unit}}
	p.next = p.nextClassic
	return nil
}

// nextClassic reads a packet of a pcap file.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                      Timestamp (Seconds)                      |
//	|            Timestamp (Microseconds or nanoseconds)            |
//	|                    Captured Packet Length                     |
//	|                    Original Packet Length                     |
//	|                          Packet Data
func (p *Reader) nextClassic(k *Record) error {
	b, err := p.read(16)
	if err != nil {
		return err
	}
	o, i := p.order, &p.ifaces[0]
	k.Time = int64(o.Uint32(b))*1e9 + i.nanoseconds(uint64(o.Uint32(b[4:])))
	n, length := o.Uint32(b[8:]), o.Uint32(b[12:])
	if n > maxRecord || length > 1<<30 {
		return broken("it says that it has %d bytes", max(n, length))
	}
	if k.Data, err = p.rest(int(n)); err != nil {
		return err
	}
	k.Link, k.Length = i.link, max(int(length), len(k.Data))
	return nil
}

// nextBlock reads blocks of a pcapng file up to the next packet.
func (p *Reader) nextBlock(k *Record) error {
	for {
		typ, body, err := p.block()
		if err != nil {
			return err
		}
		found := false
		switch typ {
		case blockInterface:
			err = p.readInterface(body)
		case blockPacket:
			found, err = true, p.readPacket(body, k)
		case blockSimple:
			found, err = true, p.readSimple(body, k)
		}
		if err != nil || found {
			return err
		}
	}
}

// blockSimple holds a packet without time and options.
const blockSimple = 3

// block reads a block and gives its body. A section's tells the byte order.
func (p *Reader) block() (typ uint32, body []byte, err error) {
	b, err := p.read(8)
	if err != nil {
		return 0, nil, err
	}
	if binary.LittleEndian.Uint32(b) == blockSection {
		return blockSection, nil, p.section()
	}
	if p.order == nil {
		return 0, nil, broken("a block stands before the first section")
	}
	typ, n := p.order.Uint32(b), p.order.Uint32(b[4:])
	if n < 12 || n%4 != 0 || n > maxBlock {
		return 0, nil, broken("a block of type %d says that it has %d bytes", typ, n)
	}
	if b, err = p.rest(int(n) - 8); err != nil {
		return 0, nil, err
	}
	if end := p.order.Uint32(b[len(b)-4:]); end != n {
		return 0, nil, broken("a block of type %d says that it has %d bytes, and at its end %d", typ, n, end)
	}
	return typ, b[:len(b)-4], nil
}

// section begins a section, whose length stands in buf in an order that is not
// known yet.
func (p *Reader) section() error {
	length := [4]byte(p.buf[4:8])
	b, err := p.rest(4)
	if err != nil {
		return err
	}
	switch {
	case binary.LittleEndian.Uint32(b) == byteOrderMagic:
		p.order = binary.LittleEndian
	case binary.BigEndian.Uint32(b) == byteOrderMagic:
		p.order = binary.BigEndian
	default:
		return broken("a section has no byte order")
	}
	n := p.order.Uint32(length[:])
	if n < 28 || n%4 != 0 || n > maxBlock {
		return broken("a section's header says that it has %d bytes", n)
	}
	if b, err = p.rest(int(n) - 12); err != nil {
		return err
	}
	if v := p.order.Uint16(b); v != 1 {
		return broken("version %d of the pcapng format is unknown", v)
	}
	p.ifaces = p.ifaces[:0]
	return nil
}

// options calls yield for each option of a block.
func (p *Reader) options(b []byte, yield func(code uint16, value []byte)) error {
	for len(b) >= 4 {
		code, n := p.order.Uint16(b), int(p.order.Uint16(b[2:]))
		if code == optEnd {
			return nil
		}
		padded := (n + 3) &^ 3
		if padded > len(b)-4 {
			return broken("option %d reaches beyond its block", code)
		}
		yield(code, b[4:4+n])
		b = b[4+padded:]
	}
	return nil
}

// ifOffset is what is to be added to an interface's timestamps, in seconds.
const ifOffset = 14

func (p *Reader) readInterface(b []byte) error {
	if len(b) < 8 {
		return broken("an interface's description is too short")
	}
	if len(p.ifaces) == maxIDs {
		return broken("a section has more than %d interfaces", maxIDs)
	}
	i := readInterface{link: LinkType(p.order.Uint16(b)), snap: p.order.Uint32(b[4:]), second: 1e6}
	resolution := uint8(6)
	err := p.options(b[8:], func(code uint16, v []byte) {
		switch {
		case code == ifName:
			i.name = string(v[:min(len(v), maxCommentLen)])
		case code == ifResolution && len(v) == 1:
			resolution = v[0]
		case code == ifOffset && len(v) == 8:
			i.seconds = int64(p.order.Uint64(v))
		}
	})
	if err != nil {
		return err
	}
	if i.second = unitsOf(resolution); i.second == 0 {
		return broken("interface %d has timestamps of resolution %#02x", len(p.ifaces), resolution)
	}
	p.ifaces = append(p.ifaces, i)
	return nil
}

// unitsOf gives how many units are a second: a power of 10, or of 2 where the
// first bit is set. 0 is more than 64 bits can count.
func unitsOf(resolution uint8) uint64 {
	n := resolution & 0x7f
	switch {
	case resolution&0x80 != 0 && n < 64:
		return 1 << n
	case resolution&0x80 != 0 || n > 19:
		return 0
	}
	u := uint64(1)
	for range n {
		u *= 10
	}
	return u
}

// nanoseconds gives a time in the interface's units in nanoseconds. What no
// clock says wraps round.
func (i *readInterface) nanoseconds(t uint64) int64 {
	hi, lo := bits.Mul64(t%i.second, 1e9)
	frac, _ := bits.Div64(hi, lo, i.second)
	return (int64(t/i.second)+i.seconds)*1e9 + int64(frac)
}

func (p *Reader) readPacket(b []byte, k *Record) error {
	if len(b) < 20 {
		return broken("its block is too short")
	}
	o := p.order
	id := o.Uint32(b)
	if uint64(id) >= uint64(len(p.ifaces)) {
		return broken("it is of interface %d, which is not described", id)
	}
	i := &p.ifaces[id]
	k.Link, k.Interface = i.link, i.name
	k.Time = i.nanoseconds(uint64(o.Uint32(b[4:]))<<32 | uint64(o.Uint32(b[8:])))
	n, length := o.Uint32(b[12:]), o.Uint32(b[16:])
	padded := (uint64(n) + 3) &^ 3
	if n > maxRecord || padded > uint64(len(b)-20) || length > 1<<30 {
		return broken("it says that it has %d bytes", max(n, length))
	}
	k.Data = b[20 : 20+n]
	k.Length = max(int(length), int(n))
	return p.options(b[20+padded:], func(code uint16, v []byte) {
		switch {
		case code == optComment:
			k.Comment = string(v[:min(len(v), maxCommentLen)])
		case code == epbFlags && len(v) == 4:
			k.Direction = Direction(o.Uint32(v) & 3)
		}
	})
}

func (p *Reader) readSimple(b []byte, k *Record) error {
	if len(b) < 4 || len(p.ifaces) == 0 {
		return broken("its block is too short, or no interface is described")
	}
	i, n := &p.ifaces[0], p.order.Uint32(b)
	if n > 1<<30 {
		return broken("it says that it has %d bytes", n)
	}
	kept := min(n, uint32(len(b)-4))
	if i.snap != 0 {
		kept = min(kept, i.snap)
	}
	if kept > maxRecord {
		return broken("it has %d bytes", kept)
	}
	k.Link, k.Interface, k.Data, k.Length = i.link, i.name, b[4:4+kept], int(n)
	return nil
}
