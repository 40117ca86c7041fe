package dataplane

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestAgainstModel lets random ports and random tunnel packets of random worlds
// speak while their configuration changes, and holds what arrives, where, and
// how it looks, against the model. HNV_MODEL_SEED asks for one world only.
func TestAgainstModel(t *testing.T) {
	first, seeds := uint64(0), uint64(scaled(600))
	if n, err := strconv.ParseUint(os.Getenv("HNV_MODEL_SEED"), 10, 64); err == nil {
		first, seeds = n, 1
	}
	arrived, over, heard := 0, 0, 0
	for seed := first; seed < first+seeds; seed++ {
		w := randomWorld(t, seed)
		for step := range 60 {
			if w.r.IntN(3) == 0 {
				w.change()
			}
			if len(w.nics) == 0 {
				continue
			}
			w.now = w.now.Add(20 * time.Millisecond)
			x := &trial{world: w, seed: seed, step: step, p: w.randomProbe()}
			payload := fmt.Sprintf("seed %d step %d, padded to be long enough", seed, step)
			if w.r.IntN(3) > 0 {
				var n *nic
				if len(w.last) > 0 && w.r.IntN(4) == 0 {
					n, x.p = w.answer(x.p)
				}
				if len(w.sent) > 0 && w.r.IntN(3) == 0 {
					n, x.p = w.again()
				}
				if n == nil {
					n = w.speaker()
					x.p = w.likely(n, x.p)
				}
				x.what = fmt.Sprintf("from port %s of VSID %d on %s", n.mac, n.vsid, n.host.pa)
				if w.r.IntN(10) == 0 {
					heard += x.shouts(n, payload)
				} else {
					p := x.p
					k := x.sends(n, payload)
					if arrived += k; k > 0 {
						w.sent = append(w.sent, heardProbe{p, n})
						w.sent = w.sent[max(0, len(w.sent)-6):]
					}
				}
			} else {
				k := x.injected(payload)
				arrived, over = arrived+k, over+k
			}
		}
	}
	t.Logf("%d probes arrived, %d of them made up, and broadcasts were heard %d times", arrived, over, heard)
	if seeds >= 100 && (arrived < 7*int(seeds) || over < int(seeds) || heard < int(seeds)) {
		t.Errorf("only %d probes arrived, %d of them made up, broadcasts were heard %d times: the test tests little", arrived, over, heard)
	}
}
