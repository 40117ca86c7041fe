package control

import (
	"fmt"
	"sync"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/forwarder"
	"github.com/hnvgate/hnvgate/hnv"
)

// condNeighbours tells whether the kernel's tables of neighbours, which all
// compartments and the gateway itself share, have room for what tenants in physical
// networks may take of them.
const condNeighbours = "NeighbourTableReady"

// A tenant may take a quarter of the smaller table, so that by default a few can do
// their worst at once, and no more than maxNeighbours.
const (
	neighbourShare = 4
	minNeighbours  = 64
	maxNeighbours  = 4096
	// neighboursFresh is how long the kernel is not asked again.
	neighboursFresh = 10 * time.Second
)

// Neighbours tells the kernel's tables, of IPv4 and IPv6; forwarder.Neighbours does.
type Neighbours func() (four, six forwarder.NeighbourTable, err error)

// neighbours knows the tables.
type neighbours struct {
	ask Neighbours // nil: nothing is known

	mu        sync.Mutex
	asked     time.Time
	four, six forwarder.NeighbourTable
	err       error
	cond      v1.Condition
}

func (n *neighbours) tables() (four, six forwarder.NeighbourTable, err error) {
	if n.ask == nil {
		return four, six, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.asked.IsZero() || time.Since(n.asked) > neighboursFresh {
		n.four, n.six, n.err = n.ask()
		n.asked = time.Now()
	}
	return n.four, n.six, n.err
}

// each is how many of a family a tenant may have; 0 where it is not known.
func (n *neighbours) each() uint32 {
	four, six, err := n.tables()
	if err != nil || four.Max == 0 {
		return 0
	}
	room := four.Max
	if six.Max > 0 { // 0: no IPv6
		room = min(room, six.Max)
	}
	return min(max(room/neighbourShare, minNeighbours), maxNeighbours)
}

// condition looks whether there is room for so many tenants in physical networks;
// false: there are none, or the kernel does not tell.
func (n *neighbours) condition(tenants int) (v1.Condition, bool) {
	four, six, err := n.tables()
	if tenants == 0 || n.ask == nil {
		return v1.Condition{}, false
	}
	next := v1.Condition{Type: condNeighbours, Status: true, Reason: "Fits"}
	each := n.each()
	next.Message = fmt.Sprintf("the kernel has room for %d neighbours of IPv4 and %d of IPv6; %s", four.Max, six.Max, mayHave(tenants, each))
	small := func(t forwarder.NeighbourTable) bool {
		return t.Max > 0 && uint64(tenants)*uint64(each) > uint64(t.Max)
	}
	if err != nil {
		next.Status, next.Reason, next.Message = false, "Unknown", err.Error()
	} else if small(four) || small(six) {
		next.Status, next.Reason = false, "TooSmall"
		next.Message += fmt.Sprintf(": all at once they could leave none for the others: on the machine itself, set net.ipv4.neigh.default.gc_thresh3 and net.ipv6.neigh.default.gc_thresh3 to %d or more", roomFor(tenants))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	next.Since = n.cond.Since
	if n.cond.Type == "" || n.cond.Status != next.Status {
		next.Since = time.Now()
	}
	n.cond = next
	return next, true
}

func mayHave(tenants int, each uint32) string {
	if tenants == 1 {
		return fmt.Sprintf("the tenant in physical networks may have %d of each", each)
	}
	return fmt.Sprintf("each of the %d tenants in physical networks may have %d of each", tenants, each)
}

// roomFor is the least power of two that is enough, as a larger table has larger
// shares up to maxNeighbours.
func roomFor(tenants int) uint64 {
	room := uint64(1024)
	for room < uint64(tenants)*maxNeighbours {
		room *= 2
	}
	return room
}

// attachedTenants counts those that have links in physical networks.
func (c *Controller) attachedTenants() (n int) {
	c.o.Store.View(func(f *hnv.Fabric) {
		for _, t := range f.Tenants() {
			for _, a := range f.Attachments(t.Name) {
				if f.UplinkKind(a.Uplink) != hnv.UplinkRouted {
					n++
					break
				}
			}
		}
	})
	return n
}
