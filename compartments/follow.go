//go:build linux

package compartments

import (
	"context"
)

// watched are the links that matter to the provider side.
type watched map[string]bool

// watch sets them: the PA links, and the interfaces of VMs that addresses come
// and go with.
func (e *Engine) watch(s ProviderSpec) {
	w := watched{}
	for _, l := range providerLinks(e.cfg.PAInterfaces, s) {
		w[l] = true
	}
	for _, r := range s.Rewrite {
		w[r.Port] = true
	}
	e.watched.Store(&w)
}

// WatchProvider gives word whenever Failover may have something to do, since a
// link of the fabric came, went, or changed its state; until ctx ends.
func (e *Engine) WatchProvider(ctx context.Context) (<-chan struct{}, error) {
	events, err := e.out.WatchLinks(ctx)
	if err != nil {
		return nil, err
	}
	out := make(chan struct{}, 1)
	go func() {
		type look struct {
			name        string
			up, carrier bool
		}
		known := map[int]look{}
		for ev := range events {
			l := ev.Link
			now := look{l.Name, l.Up, l.Carrier}
			before, is := known[l.Index]
			w := *e.watched.Load()
			switch {
			case ev.Missed:
			case !w[l.Name] && !(is && w[before.name]):
				continue
			case ev.Gone:
				delete(known, l.Index)
			case is && before == now:
				continue
			default:
				known[l.Index] = now
			}
			select {
			case out <- struct{}{}:
			default: // one is waiting already
			}
		}
	}()
	return out, nil
}
