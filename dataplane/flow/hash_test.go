package flow

import (
	"math/rand/v2"
	"testing"
)

func seedFrom(r *rand.Rand) (s seed) {
	for i := range s.nh {
		s.nh[i] = r.Uint64()
	}
	for i := range s.fold {
		s.fold[i] = r.Uint64()
	}
	return s
}

// chiSquare gives the statistic of counts against an even spread.
func chiSquare(counts []int) float64 {
	total := 0
	for _, n := range counts {
		total += n
	}
	want, sum := float64(total)/float64(len(counts)), 0.0
	for _, n := range counts {
		d := float64(n) - want
		sum += d * d / want
	}
	return sum
}

// families are keys as they come: neighbours' addresses, ports that count up,
// and such as somebody makes who hopes for the worst.
var families = map[string]func(i int) Key{
	"source ports":      func(i int) Key { return Key{Proto: 6, Family: 4, Dir: 1, SrcPort: uint16(i), DstPort: 443} },
	"destination ports": func(i int) Key { return Key{Proto: 6, Family: 4, Dir: 1, SrcPort: 443, DstPort: uint16(i)} },
	"both ports":        func(i int) Key { return Key{Proto: 6, Family: 4, Dir: 1, SrcPort: uint16(i), DstPort: uint16(i)} },
	"IPv4 sources": func(i int) Key {
		return Key{Family: 4, Src: [16]byte{10: 255, 11: 255, 12: 10, 14: byte(i >> 8), 15: byte(i)}}
	},
	"IPv4 both": func(i int) Key {
		return Key{Family: 4, Src: [16]byte{14: byte(i >> 8), 15: byte(i)}, Dst: [16]byte{14: byte(i >> 8), 15: byte(i)}}
	},
	"IPv6 prefixes": func(i int) Key { return Key{Family: 6, Src: [16]byte{0: byte(i >> 8), 1: byte(i)}} },
	"halves swapped": func(i int) Key {
		return Key{Src: [16]byte{0: byte(i >> 8), 8: byte(i)}, Dst: [16]byte{0: byte(i), 8: byte(i >> 8)}}
	},
	"one bit in each byte": func(i int) (k Key) {
		for b := range 16 {
			k.Src[b] = byte(i>>b&1) << 7
		}
		return k
	},
	"top bits of all words": func(i int) (k Key) {
		for w := range 2 {
			k.Src[8*w+7] = byte(i>>(4*w)) << 4
			k.Dst[8*w+7] = byte(i>>(8+4*w)) << 4
		}
		return k
	},
}

// All bits that the table takes out of the hash must spread evenly. With n bins
// the statistic has mean n-1 and deviation sqrt(2n).
func TestHashSpreads(t *testing.T) {
	for name, family := range families {
		s := seedFrom(rand.New(rand.NewPCG(1, uint64(len(name)))))
		var shard [shards]int
		var low, high [256]int
		var both [4096]int
		const n = 1 << 16
		for i := range n {
			k := family(i)
			h := s.hash(&k)
			tag := tagOf(h)
			shard[h>>shardShift]++
			low[tag&255]++
			high[tag>>24]++
			both[h>>shardShift<<8|uint64(tag&255)]++
		}
		for what, c := range map[string]struct {
			counts []int
			dev    float64
		}{"shards": {shard[:], 5.5}, "low bits": {low[:], 22.6}, "high bits": {high[:], 22.6}, "slots": {both[:], 90.5}} {
			chi, mean := chiSquare(c.counts), float64(len(c.counts)-1)
			if chi > mean+5*c.dev || chi < mean-5*c.dev {
				t.Errorf("%s: %s give chi-square %.0f, want about %.0f", name, what, chi, mean)
			}
		}
	}
}

// A single bit of the key changes half of the hash.
func TestHashAvalanche(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const rounds = 2000
	for word := range 5 {
		for bit := range 64 {
			var flips [64]int
			for range rounds {
				s, k := seedFrom(r), randomKey(r)
				other := k
				switch b := byte(1) << (bit % 8); word {
				case 0, 1:
					other.Src[word*8+bit/8] ^= b
				case 2, 3:
					other.Dst[word*8+bit/8-16] ^= b
				default:
					flipScalar(&other, bit)
				}
				d := s.hash(&k) ^ s.hash(&other)
				for i := range flips {
					flips[i] += int(d >> i & 1)
				}
			}
			for i, n := range flips {
				// Deviation is sqrt(2000)/2 = 22.4; 20480 numbers are looked at.
				if n < rounds/2-6*23 || n > rounds/2+6*23 {
					t.Fatalf("bit %d of word %d flips bit %d %d times of %d", bit, word, i, n, rounds)
				}
			}
		}
	}
}

func flipScalar(k *Key, bit int) {
	switch {
	case bit < 8:
		k.Kind ^= 1 << bit
	case bit < 16:
		k.Dir ^= 1 << (bit - 8)
	case bit < 24:
		k.Family ^= 1 << (bit - 16)
	case bit < 32:
		k.Proto ^= 1 << (bit - 24)
	case bit < 48:
		k.DstPort ^= 1 << (bit - 32)
	default:
		k.SrcPort ^= 1 << (bit - 48)
	}
}

// probes gives how many slots a lookup of each key looks at, on average and at
// most.
func probes(table *Table[int], keys []Key) (mean float64, most int) {
	total := 0
	for i := range keys {
		h := table.seed.hash(&keys[i])
		s := table.slots[h>>shardShift].Load()
		if s == nil {
			continue
		}
		n := 1
		for at := tagOf(h) & s.mask(); s.tags[at].Load() != tagFree; at = (at + 1) & s.mask() {
			if e := s.entries[at].Load(); e != nil && e.key == keys[i] {
				break
			}
			n++
		}
		total += n
		most = max(most, n)
	}
	return float64(total) / float64(len(keys)), most
}

// Keys that all meet in one place of one table do not in another one: who finds
// such keys by watching the one has won nothing.
func TestAdversarialKeys(t *testing.T) {
	victim, other := New(Options[int]{}), New(Options[int]{})
	r := rand.New(rand.NewPCG(5, 6))
	victim.seed, other.seed = seedFrom(r), seedFrom(r)
	var keys []Key
	for i := 0; len(keys) < 500; i++ {
		k := key(i)
		if h := victim.seed.hash(&k); h>>shardShift == 0 && h&0x3ff == 5 {
			keys = append(keys, k)
		}
	}
	for _, table := range []*Table[int]{victim, other} {
		for _, k := range keys {
			if _, err := table.Insert(k, nil, 1, 0); err != nil {
				t.Fatal(err)
			}
		}
		checkSlots(t, table)
	}
	if mean, most := probes(victim, keys); mean < 100 {
		t.Errorf("the keys do not meet: %.1f probes, %d at most", mean, most)
	}
	if mean, most := probes(other, keys); mean > 4 || most > 60 {
		t.Errorf("in another table: %.1f probes, %d at most", mean, most)
	}
	// And the seeds are drawn anew for each table.
	if a, b := New(Options[int]{}), New(Options[int]{}); a.seed == b.seed {
		t.Error("two tables have one seed")
	}
}

// In a full table, too, a lookup ends soon.
func TestProbesStayShort(t *testing.T) {
	for name, family := range families {
		table := New(Options[int]{Max: 1 << 16})
		table.seed = seedFrom(rand.New(rand.NewPCG(7, 8)))
		keys := make([]Key, 1<<15)
		for i := range keys {
			keys[i] = family(i)
			if _, err := table.Insert(keys[i], nil, 1, 0); err != nil {
				t.Fatal(err)
			}
		}
		if mean, most := probes(table, keys); mean > 3 || most > 150 {
			t.Errorf("%s: %.2f slots on average, %d at most", name, mean, most)
		}
	}
}
