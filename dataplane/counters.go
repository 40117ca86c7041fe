package dataplane

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// Traffic counts packets and their bytes.
type Traffic struct{ Packets, Bytes uint64 }

// TenantCounters is what happened to a tenant's packets since it was applied
// first. The one without a name and RDID counts what was dropped before the
// tenant was known.
type TenantCounters struct {
	Name hnv.Name
	RDID hnv.RDID

	FromFabric Traffic // outer packets that came with a VSID of the tenant
	ToFabric   Traffic // outer packets sent
	FromPorts  Traffic // frames taken from VMs and the compartment
	ToPorts    Traffic // frames given to them

	Answered      uint64 // ARP, neighbor discovery and echo requests answered
	ICMPErrors    uint64 // ICMP errors sent
	ICMPWithheld  uint64 // ICMP errors not sent: the rate limit
	DropsByReason map[drop.Reason]uint64

	// LeftToStack is how many of the packets dropped before the tenant was known
	// were none of the dataplane's, so that the machine's own stack had them.
	LeftToStack uint64
}

// add adds what was counted elsewhere.
func (c *TenantCounters) add(o TenantCounters) {
	for _, t := range []struct {
		sum *Traffic
		Traffic
	}{{&c.FromFabric, o.FromFabric}, {&c.ToFabric, o.ToFabric}, {&c.FromPorts, o.FromPorts}, {&c.ToPorts, o.ToPorts}} {
		t.sum.Packets += t.Packets
		t.sum.Bytes += t.Bytes
	}
	for r, n := range o.DropsByReason {
		c.DropsByReason[r] += n
	}
	c.Answered += o.Answered
	c.LeftToStack += o.LeftToStack
}

// Drops is the number of packets dropped for whatever reason.
func (c *TenantCounters) Drops() (n uint64) {
	for _, d := range c.DropsByReason {
		n += d
	}
	return n
}

// The places of a cell. Drops by reason come after.
const (
	fromFabric = 2 * iota // packets, then bytes
	toFabric
	fromPorts
	toPorts
	answered
	icmpErrors  = answered + 1
	icmpDenied  = answered + 2
	leftToStack = answered + 3
	dropsBefore = answered + 4
	cellSize    = dropsBefore + drop.Count
)

// cell is what one worker counted of one tenant. Only that worker writes, so
// its cache lines stay where they are; anyone may read.
type cell [cellSize]atomic.Uint64

func (c *cell) add(what int, n uint64) { c[what].Add(n) }

func (c *cell) traffic(what, bytes int) {
	c[what].Add(1)
	c[what+1].Add(uint64(bytes))
}

func (c *cell) drop(r drop.Reason, n int) {
	if r != drop.None {
		c[dropsBefore+int(r)].Add(uint64(n))
	}
}

// counters are a tenant's cells.
type counters struct {
	mu      sync.Mutex
	cells   []*cell
	retired [cellSize]uint64 // of workers that ended
}

func (c *counters) newCell() *cell {
	n := new(cell)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cells = append(c.cells, n)
	return n
}

// retire keeps what a worker counted when the worker ends.
func (c *counters) retire(old *cell) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.cells, old); i >= 0 {
		c.cells = slices.Delete(c.cells, i, i+1)
		for j := range old {
			c.retired[j] += old[j].Load()
		}
	}
}

func (c *counters) sum() TenantCounters {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.retired
	for _, cell := range c.cells {
		for i := range cell {
			n[i] += cell[i].Load()
		}
	}
	out := TenantCounters{
		FromFabric:    Traffic{n[fromFabric], n[fromFabric+1]},
		ToFabric:      Traffic{n[toFabric], n[toFabric+1]},
		FromPorts:     Traffic{n[fromPorts], n[fromPorts+1]},
		ToPorts:       Traffic{n[toPorts], n[toPorts+1]},
		Answered:      n[answered],
		ICMPErrors:    n[icmpErrors],
		ICMPWithheld:  n[icmpDenied],
		LeftToStack:   n[leftToStack],
		DropsByReason: map[drop.Reason]uint64{},
	}
	for _, r := range drop.All() {
		if d := n[dropsBefore+int(r)]; d != 0 {
			out.DropsByReason[r] = d
		}
	}
	return out
}

// Counters gives what was counted for each tenant, by name, after what was
// dropped before the tenant was known.
func (s *Switch) Counters() []TenantCounters {
	s.mu.Lock()
	tenants := make([]*tenant, 0, len(s.byRDID))
	for _, t := range s.byRDID {
		tenants = append(tenants, t)
	}
	s.mu.Unlock()
	elsewhere := map[hnv.RDID]TenantCounters{}
	s.inform(func(f Follower) {
		for _, c := range f.Counters() {
			elsewhere[c.RDID] = c
		}
	})
	out := []TenantCounters{s.nowhere.counters.sum()}
	out[0].add(elsewhere[hnv.RDID{}])
	for _, t := range tenants {
		c := t.counters.sum()
		c.RDID = t.rdid
		c.add(elsewhere[t.rdid])
		if d := t.domain.Load(); d != nil {
			c.Name = d.Name
		}
		out = append(out, c)
	}
	slices.SortFunc(out[1:], func(a, b TenantCounters) int {
		return cmp.Compare(a.Name.String(), b.Name.String())
	})
	return out
}
