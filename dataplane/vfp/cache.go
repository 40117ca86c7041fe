package vfp

import (
	"hash/maphash"
	"slices"
	"sync"
	"weak"
)

// Cache lets Programs share what they have in common: an access list of a
// thousand rules that applies to a hundred ports is compiled once and stored
// once, but for its counters. What no Program uses any more is forgotten. It may
// be used by any number of goroutines.
type Cache struct {
	mu     sync.Mutex
	seed   maphash.Seed
	tables map[uint64][]weak.Pointer[tables]
	sweep  int // how many hashes there may be before the forgotten ones are looked for
}

// NewCache makes an empty cache.
func NewCache() *Cache {
	return &Cache{seed: maphash.MakeSeed(), tables: map[uint64][]weak.Pointer[tables]{}}
}

// Compile is the function Compile with shared tables.
func (c *Cache) Compile(layers []Layer) (*Program, error) { return compile(layers, c) }

// find gives the tables of rules that are the same in every respect, nil if
// there are none.
func (c *Cache) find(f Family, rules []Rule) *tables {
	if c == nil {
		return nil
	}
	h := c.hash(f, rules)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.tables[h] {
		if t := w.Value(); t != nil && t.family == f && slices.EqualFunc(t.rules, rules, sameRule) {
			return t
		}
	}
	return nil
}

// keep remembers tables as long as somebody uses them.
func (c *Cache) keep(t *tables) {
	if c == nil {
		return
	}
	h := c.hash(t.family, t.rules)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables[h] = append(c.tables[h], weak.Make(t))
	if len(c.tables) <= c.sweep {
		return
	}
	for h, list := range c.tables {
		list = slices.DeleteFunc(list, func(w weak.Pointer[tables]) bool { return w.Value() == nil })
		if len(list) == 0 {
			delete(c.tables, h)
		} else {
			c.tables[h] = list
		}
	}
	c.sweep = 2*len(c.tables) + 16
}

func (c *Cache) hash(f Family, rules []Rule) uint64 {
	h := uint64(f)
	for i := range rules {
		r := &rules[i]
		h = mix(h, maphash.String(c.seed, r.ID))
		h = mix(h, maphash.Comparable(c.seed, r.Action.Kind)^uint64(r.Priority))
		for _, p := range r.Match.Src {
			h = mix(h, maphash.Comparable(c.seed, p))
		}
		for _, p := range r.Match.Dst {
			h = mix(h, maphash.Comparable(c.seed, p))
		}
		for _, p := range r.Match.DstPorts {
			h = mix(h, uint64(p.Lo)<<16|uint64(p.Hi))
		}
	}
	return h
}

// mix is one step of FNV-1a, of 64 bits at a time.
func mix(h, v uint64) uint64 { return (h ^ v) * 0x100000001b3 }

func sameRule(a, b Rule) bool {
	m, n := &a.Match, &b.Match
	return a.ID == b.ID && a.Priority == b.Priority && a.Action == b.Action &&
		same(m.SrcMAC, n.SrcMAC) && same(m.DstMAC, n.DstMAC) && m.Group == n.Group && m.EtherType == n.EtherType &&
		same(m.Proto, n.Proto) && slices.Equal(m.Src, n.Src) && slices.Equal(m.Dst, n.Dst) &&
		slices.Equal(m.SrcPorts, n.SrcPorts) && slices.Equal(m.DstPorts, n.DstPorts) &&
		slices.Equal(m.ICMPTypes, n.ICMPTypes) && m.TCPFlags == n.TCPFlags
}

func same[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
