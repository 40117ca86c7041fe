//go:build linux

package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/nfnl"
)

// ErrChanged: someone changed the ruleset since the generation named.
var ErrChanged = nfnl.ErrChanged

// A Change puts elements into a set and takes others out. Set need only have
// the definition, not the elements.
type Change struct {
	Set      Set
	Put, Del []Element
}

// Generation numbers the ruleset of the namespace: it differs after each change
// that anyone makes to any table.
func (c *Conn) Generation() (uint32, error) { return generation(c.nl) }

// Change makes all changes to sets of one table in one atomic batch, at a cost
// that does not depend on the size of the table. What is taken out must be
// there and what is put in must not be; whoever knows both at a generation
// gives it, and has ErrChanged when the knowledge is out of date.
func (c *Conn) Change(f Family, table string, generation uint32, changes []Change) error {
	p := planner{want: compiled{family: f, name: table}}
	for _, typ := range []uint16{msgDelSetElem, msgNewSetElem} {
		for _, ch := range changes {
			s := ch.Set
			if s.Elements = ch.Put; typ == msgDelSetElem {
				s.Elements = ch.Del
			}
			cs, err := compileSet(s)
			if err != nil {
				return fmt.Errorf("change table %s %s: %w", f, table, err)
			}
			p.elements(typ, cs, cs.elems)
		}
	}
	if err := c.nl.Batch(subsystem, generation, p.msgs); err != nil {
		return fmt.Errorf("change table %s %s: %w", f, table, err)
	}
	return nil
}

// Elements reads the elements of a set that is like s; none if there is no such
// set. Sets of intervals must have a concatenated key.
func (c *Conn) Elements(f Family, table string, s Set) ([]Element, error) {
	var raw []elem
	var err error
	for range attempts {
		if raw, err = readElements(c.nl, f, table, s.Name); !again(err) {
			break
		}
	}
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := make([]Element, 0, len(raw))
	for _, r := range raw {
		key, err1 := splitValues(r.key, r.keyEnd, s.Key)
		value, err2 := splitValues(r.data, "", s.Value)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("read elements of set %s of table %s: %w", s.Name, table, err)
		}
		out = append(out, Element{Key: key, Value: value})
	}
	return out, nil
}

// splitValues undoes joinValues.
func splitValues(lo, hi string, ts []Type) ([]Value, error) {
	if len(ts) == 0 {
		return nil, nil
	}
	if hi == "" {
		hi = lo
	}
	if n := typesSize(ts); len(lo) != n || len(hi) != n {
		return nil, fmt.Errorf("a key or value of %d bytes, not %d", len(lo), n)
	}
	var out []Value
	for _, t := range ts {
		v, err := t.value([]byte(lo[:t.size]), []byte(hi[:t.size]))
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		skip := min(align4(t.size), len(lo))
		lo, hi = lo[skip:], hi[skip:]
	}
	return out, nil
}

// value reads back what the functions of value.go make.
func (t Type) value(lo, hi []byte) (Value, error) {
	one := string(lo) == string(hi)
	switch {
	case t == InetService:
		return Ports(binary.BigEndian.Uint16(lo), binary.BigEndian.Uint16(hi)), nil
	case t == InetProto && one:
		return Proto(Protocol(lo[0])), nil
	case (t == IPv4Addr || t == IPv6Addr) && one:
		a, _ := netip.AddrFromSlice(lo)
		return Addr(a), nil
	case t == IPv4Addr || t == IPv6Addr:
		if p, ok := prefixOf(lo, hi); ok {
			return Prefix(p), nil
		}
	case t == IfName && one:
		name, _, _ := strings.Cut(string(lo), "\x00")
		return Name(name), nil
	case t == IfIndex && one:
		return Index(int(binary.NativeEndian.Uint32(lo))), nil
	case t == VSID && one:
		return Subnet(uint32(lo[0])<<16 | uint32(lo[1])<<8 | uint32(lo[2])), nil
	}
	return Value{}, fmt.Errorf("an element of type %s that is not of our making", t.name)
}

// Bits gives the length of the prefix that an address's value is.
func (v Value) Bits() int {
	p, _ := prefixOf(v.lo, v.hi)
	return p.Bits()
}

// prefixOf finds the prefix that reaches from the one address to the other.
func prefixOf(lo, hi []byte) (netip.Prefix, bool) {
	same := 0
	for i := range lo {
		n := bits.LeadingZeros8(lo[i] ^ hi[i])
		if same += n; n < 8 {
			break
		}
	}
	a, _ := netip.AddrFromSlice(lo)
	p := netip.PrefixFrom(a, same)
	return p, p == p.Masked() && string(Prefix(p).hi) == string(hi)
}

// Bounds gives the value's bytes as they stand in a packet, of a range the
// first and the last; they must not be changed.
func (v Value) Bounds() (lo, hi []byte) { return v.lo, v.hi }
