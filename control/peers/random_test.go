package peers

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
)

// Whatever happened, once all reach each other again every machine has of each
// address what its owner has, and nothing of addresses that nobody owns.
func TestAllAgreeInTheEnd(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) { disorder(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func disorder(t *testing.T, r *rand.Rand) {
	a, b, g := three(t)
	hosts := []*host{a, b, g}
	defer startAll(hosts...)()
	ca := func() (uint32, string, byte) {
		n := byte(2 + r.IntN(6))
		if r.IntN(3) == 0 {
			return 6001, fmt.Sprintf("10.1.0.%d", n), n/2 + 1
		}
		return 5001, fmt.Sprintf("10.1.0.%d", n), n/2 + 1 // two addresses a MAC
	}
	wires := func(fn func(w *wire)) {
		for _, h := range hosts {
			for _, n := range h.order {
				h.wires[n].set(fn)
			}
		}
	}
	for range 150 {
		h := hosts[r.IntN(3)]
		w := h.wires[h.order[r.IntN(2)]]
		switch r.IntN(12) {
		case 0, 1, 2, 3, 4:
			v, ca, m := ca()
			h.learn(v, ca, m)
		case 5, 6:
			v, ca, _ := ca()
			if h.has(v, ca) == h.pa.String() {
				h.forget(v, ca)
			}
		case 7:
			w.set(func(w *wire) { w.cut = !w.cut })
		case 8:
			w.set(func(w *wire) { w.deaf = !w.deaf })
		case 9:
			w.set(func(w *wire) { w.hang = !w.hang })
		case 10:
			h.end()
			if v, ca, m := ca(); r.IntN(2) == 0 {
				h.learn(v, ca, m)
			} else if h.has(v, ca) == h.pa.String() {
				h.forget(v, ca)
			}
			h.start()
		}
		time.Sleep(time.Duration(r.IntN(20000)) * time.Millisecond)
	}
	wires(func(w *wire) { w.cut, w.deaf, w.hang = false, false, false })
	time.Sleep(time.Hour)
	agree(t, hosts)
	// Who owns something gives it up, and so do all.
	for _, h := range hosts {
		for _, k := range owned(h) {
			h.forget(k.VSID.Uint32(), k.CA.String())
		}
	}
	time.Sleep(time.Hour)
	for _, h := range hosts {
		h.store.View(func(f *hnv.Fabric) {
			for _, r := range f.DynamicRecords() {
				t.Errorf("%s still has %s at %s (%s)", h.name, r.Key(), r.PA, r.Context)
			}
		})
	}
}

func owned(h *host) (out []hnv.RecordKey) {
	h.store.View(func(f *hnv.Fabric) {
		for _, r := range f.DynamicRecords() {
			if r.PA == h.pa {
				out = append(out, r.RecordKey())
			}
		}
	})
	return out
}

// agree looks at what one host alone owns, the addresses of a station together:
// two that each learned it at a time they do not know any more, having been
// started anew, both keep it until one is seen again or ages.
func agree(t *testing.T, hosts []*host) {
	t.Helper()
	owners := map[station]map[*host]bool{}
	at := map[hnv.RecordKey]*host{}
	all := map[hnv.RecordKey]bool{}
	for _, h := range hosts {
		h.store.View(func(f *hnv.Fabric) {
			for _, r := range f.DynamicRecords() {
				all[r.RecordKey()] = true
				if r.PA != h.pa {
					continue
				}
				at[r.RecordKey()] = h
				s := station{r.VSID, r.MAC}
				if owners[s] == nil {
					owners[s] = map[*host]bool{}
				}
				owners[s][h] = true
			}
		})
	}
	single := 0
	for k := range all {
		o := at[k]
		if o != nil {
			r, _ := o.record(k.VSID.Uint32(), k.CA.String())
			if len(owners[station{r.VSID, r.MAC}]) > 1 {
				continue
			}
			single++
		}
		for _, h := range hosts {
			got := h.has(k.VSID.Uint32(), k.CA.String())
			switch {
			case o == nil && got != "":
				t.Errorf("%s has %s at %s, and nobody owns it", h.name, k, got)
			case o != nil && got != o.pa.String():
				t.Errorf("%s has %s at %q, but it is %s's", h.name, k, got, o.name)
			}
		}
	}
	t.Logf("%d addresses, %d of them with one owner", len(all), single)
}
