package dataplane

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/hnvgate/hnvgate/hnv"
)

func randomMAC(r *rand.Rand) hnv.MAC {
	m, _ := hnv.MACFrom([6]byte{0, 0x15, 0x5d, 0, 0, byte(1 + r.IntN(6))})
	return m
}

// probe is a frame of the test, in the terms of the model.
type probe struct {
	src, dst     hnv.MAC
	from, to     netip.Addr
	proto, echo  uint8 // echo: 1 request, 2 reply
	sport, dport uint16
	ttl, class   uint8
}

func (w *world) randomProbe() probe {
	r := w.r
	six := r.IntN(6) == 0
	addr := func() netip.Addr {
		n, s := 1+r.IntN(6), r.IntN(2)
		switch {
		case six && r.IntN(6) == 0:
			return ip("2001:db8::1")
		case six:
			return ca6(s, n)
		case r.IntN(6) == 0:
			return netip.AddrFrom4([4]byte{8, 8, 8, byte(n)})
		case r.IntN(8) == 0:
			return ip("10.0.9.9")
		}
		return ca4(s, n)
	}
	mac := func() hnv.MAC {
		if r.IntN(2) == 0 {
			return hnv.RouterMAC
		}
		return randomMAC(r)
	}
	p := probe{src: mac(), dst: mac(), from: addr(), to: addr(), ttl: 64, class: uint8(r.IntN(256)), sport: uint16(r.IntN(4)), dport: uint16(r.IntN(4))}
	if p.class&3 == 3 {
		p.class &^= 1 // congestion is the fabric's to mark
	}
	switch r.IntN(5) {
	case 0:
		p.proto = 6
	case 1:
		p.proto, p.echo = 1, uint8(1+r.IntN(2))
		if p.dport = p.sport; six {
			p.proto = 58
		}
	default:
		p.proto = 17
	}
	if r.IntN(20) == 0 {
		p.ttl = uint8(r.IntN(3))
	}
	return p
}

// addresses gives those that the port has, and those of others.
func (w *world) addresses(n *nic, four bool) (mine, others []netip.Addr) {
	t := w.told[n.host][w.at[n].tenant]
	for _, rec := range t.Records {
		q := spotOf(rec)
		switch {
		case !rec.CA.IsValid() || rec.CA.Is4() != four:
		case rec.MAC == n.mac && q.vsid == n.vsid && q.at(w.pas(n.host)):
			mine = append(mine, rec.CA)
		default:
			others = append(others, rec.CA)
		}
	}
	return mine, others
}

// speaker picks a port, mostly one with an address.
func (w *world) speaker() *nic {
	var n *nic
	for range 8 {
		n = w.nics[w.r.IntN(len(w.nics))]
		if mine, _ := w.addresses(n, true); len(mine) > 0 || w.r.IntN(8) == 0 {
			break
		}
	}
	return n
}

// likely turns a probe of n into one that has a chance: from an address of its
// own, or one that it speaks for, to one that is somewhere.
func (w *world) likely(n *nic, p probe) probe {
	r, t := w.r, w.told[n.host][w.at[n].tenant]
	if r.IntN(20) != 0 {
		p.src = n.mac
	}
	mine, others := w.addresses(n, p.from.Is4())
	if len(mine) > 0 && r.IntN(8) != 0 {
		p.from = mine[r.IntN(len(mine))]
	}
	if len(others) > 0 && r.IntN(3) != 0 {
		p.to = others[r.IntN(len(others))]
	}
	if found, _, _ := places(t, p.to); len(found) > 0 && r.IntN(5) != 0 {
		if p.dst = hnv.RouterMAC; found[0].vsid == n.vsid && r.IntN(2) == 0 {
			p.dst = found[0].mac
		}
	}
	return p
}

// answer gives a probe that answers one which arrived, and who sends it.
func (w *world) answer(p probe) (*nic, probe) {
	l := w.last[w.r.IntN(len(w.last))]
	if w.at[l.by] == nil {
		return nil, p
	}
	p.src, p.dst = l.by.mac, hnv.RouterMAC
	p.proto, p.from, p.to, p.sport, p.dport = l.proto, l.to, l.from, l.dport, l.sport
	if p.echo = 0; l.echo != 0 {
		p.echo = 3 - l.echo
	}
	if found, _, _ := places(w.told[l.by.host][w.at[l.by].tenant], p.to); len(found) > 0 && found[0].vsid == l.by.vsid {
		p.dst = found[0].mac
	}
	return l.by, p
}

// again gives a probe that was sent before, and who sent it: flows remember.
func (w *world) again() (*nic, probe) {
	l := w.sent[w.r.IntN(len(w.sent))]
	if w.at[l.by] == nil {
		return nil, l.probe
	}
	return l.by, l.probe
}

func (p probe) String() string {
	return fmt.Sprintf("%s > %s, %s > %s protocol %d echo %d ports %d > %d TTL %d class %#x", p.src, p.dst, p.from, p.to, p.proto, p.echo, p.sport, p.dport, p.ttl, p.class)
}

func (p probe) conn(dir hnv.Direction) conn {
	return conn{dir, p.proto, p.echo, p.from, p.to, p.sport, p.dport}
}

// frame writes the probe, padded, with the payload.
func (p probe) frame(payload string) []byte {
	var body []byte
	switch {
	case p.proto == 17:
		body = binary.BigEndian.AppendUint16(body, p.sport)
		body = binary.BigEndian.AppendUint16(body, p.dport)
		body = binary.BigEndian.AppendUint16(body, uint16(8+len(payload)))
		body = append(body, 0, 0)
	case p.proto == 6:
		body = binary.BigEndian.AppendUint16(body, p.sport)
		body = binary.BigEndian.AppendUint16(body, p.dport)
		body = append(body, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0)
	default:
		typ := map[uint8][2]byte{1: {8, 0}, 58: {128, 129}}[p.proto][p.echo-1]
		body = append(body, typ, 0, 0, 0)
		body = binary.BigEndian.AppendUint16(body, p.sport)
		body = append(body, 0, 1)
	}
	b := rawIP(p.src, p.dst, p.from.String(), p.to.String(), p.ttl, p.proto, append(body, payload...))
	if p.from.Is4() {
		b[15], b[24], b[25] = p.class, 0, 0
		binary.BigEndian.PutUint16(b[24:], ^sum16(b[14:34]))
	} else {
		b[14] |= p.class >> 4
		b[15] |= p.class << 4
	}
	return b
}
