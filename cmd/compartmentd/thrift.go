//go:build linux

package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// There is an agent for each tenant with tunnels or BGP, and most of them idle: so
// they keep no more memory than they use. Left to itself, the collector lets a process
// with one tunnel grow by 26 MB of garbage, as it counts WireGuard's receive buffers,
// which an idle tunnel has but never touches.
const (
	thriftEvery = 20 * time.Second
	// worthwhile is how much there must be to give back.
	worthwhile = 256 << 10
	// busyHeap is what an agent with very many routes has: to walk over them for some
	// garbage takes the processor from them.
	busyHeap = 256 << 20
)

// thrift gives back to the machine what is not used, until ctx ends.
func thrift(ctx context.Context) {
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	t := time.NewTicker(thriftEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		metrics.Read(s)
		objects, live, free := s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64()
		if objects < busyHeap && objects-min(live, objects)+free > worthwhile {
			debug.FreeOSMemory()
		}
	}
}
