package port

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/net/bpf"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// What a fast path leaves to user space comes over a link of its own, behind a
// header in the place of an Ethernet one (dataplane/offload/bpf/punt.h), in the
// byte order of the machine but for the EtherType:
//
//	 0         1         2         3         4                   8                   12        14
//	+---------+---------+---------+---------+-------------------+-------------------+---------+---
//	| version | why     | from    | queue   | interface index   | tenant            | 0x88b5  | the packet as it came
//	+---------+---------+---------+---------+-------------------+-------------------+---------+---
const (
	puntLen       = 14
	puntVersion   = 1
	puntEtherType = 0x88b5 // IEEE 802 local experimental
)

// PuntOrigin is where a packet arrived that was left to user space.
type PuntOrigin uint8

// The origins.
const (
	PuntFabric PuntOrigin = 1 // an outer packet, which reads as from a ProviderReader
	PuntPort   PuntOrigin = 2 // a port's frame, which reads as from a Link
)

// PuntQueue tells apart what is to be served apart.
type PuntQueue uint8

// The queues.
const (
	PuntOdd  PuntQueue = 0 // what is out of the ordinary: ARP, broadcasts, errors to be told
	PuntBulk PuntQueue = 1 // packets like others, of ports or tenants that user space has
)

// Punt tells of a packet that was left to user space.
type Punt struct {
	Why     uint8 // as package offload numbers the reasons
	Origin  PuntOrigin
	Queue   PuntQueue
	Ifindex uint32 // where it arrived
	Tenant  uint32 // as package offload numbers tenants; 0: nobody's that is known
}

var errPunt = errors.New("not a packet of the fast path")

// parsePunt reads the header.
func parsePunt(b []byte) (p Punt, err error) {
	if len(b) < puntLen || b[0] != puntVersion || binary.BigEndian.Uint16(b[12:]) != puntEtherType {
		return p, errPunt
	}
	p = Punt{
		Why: b[1], Origin: PuntOrigin(b[2]), Queue: PuntQueue(b[3]),
		Ifindex: binary.NativeEndian.Uint32(b[4:]), Tenant: binary.NativeEndian.Uint32(b[8:]),
	}
	if p.Origin != PuntFabric && p.Origin != PuntPort || p.Queue > PuntBulk {
		return Punt{}, errPunt
	}
	return p, nil
}

// unwrap makes of what came over the link the packet as its port's or its
// interface's reader would give it.
func unwrap(f *packet.Frame) (Punt, error) {
	p, err := parsePunt(f.Bytes())
	if err != nil {
		return p, err
	}
	cut := puntLen
	if p.Origin == PuntFabric {
		cut += ethLen
	} else if f.Len() < puntLen+ethLen {
		return p, errPunt
	}
	// A checksum within what is cut off would be one of no packet.
	if o := f.Offload; o.NeedsCsum && int(o.CsumStart) < cut || !f.TrimFront(cut) {
		return p, errPunt
	}
	return p, nil
}

// puntFilter lets the packets of the queue pass, and of tenants only each of-th.
func puntFilter(q PuntQueue, share, of int) ([]bpf.Instruction, error) {
	if of < 1 || of > 256 || share < 0 || share >= of || q > PuntBulk {
		return nil, fmt.Errorf("queue %d, share %d of %d is none", q, share, of)
	}
	// A tenant's share is told by its number's lowest byte, where it has the
	// byte order of the programs: little-endian.
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: puntEtherType, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 3, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(q), SkipTrue: 4},
		bpf.LoadAbsolute{Off: 8, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: uint32(of)},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(share), SkipTrue: 1},
		accept,
		reject,
	}, nil
}
