package offload

import (
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/flow"
)

// The entries of the table of verdicts, as bpf/verdict.h has them.
type (
	verdictKey struct {
		Port         uint32
		SPort, DPort uint16
		Src, Dst     addr
		Dir, Proto   uint8
		Pad          [2]byte
	}

	verdictValue struct {
		Key            verdictKey
		Reason         uint32
		Policy, Reply  uint32
		Seen           uint64
		Packets, Bytes uint64
	}
)

// idleVerdict is after what time without packets a verdict is taken out: the Switch
// knows the flow still, and gives another one when it goes on.
const idleVerdict = time.Minute

// verdicts are what the Switch says of flows at ports with lists. It writes them
// while it forwards, so that they have a lock of their own. No tenant takes more
// than is left for others: as many as there is room for beside its own.
type verdicts struct {
	t    table[verdictKey, verdictValue]
	max  int
	log  *slog.Logger
	base uint32        // of this process's generations, unlikely to be another one's
	now  func() uint64 // nanoseconds, by the programs' clock

	mu       sync.Mutex
	links    map[dataplane.PortID]linked
	ports    map[uint32]dataplane.PortID // by interface
	known    map[verdictKey]*offered
	share    map[uint32]int // of each tenant
	refused  uint64
	complain time.Time
	// left are those of an earlier process, by port, until their ports are known.
	left map[uint32][]verdictValue
}

// linked is where a port is.
type linked struct{ ifindex, tenant uint32 }

// offered is a verdict that is in the table.
type offered struct {
	tenant         uint32
	reply          bool
	packets, bytes uint64 // that the Switch was told of
}

func newVerdicts(t table[verdictKey, verdictValue], max uint32, log *slog.Logger) (*verdicts, error) {
	start := time.Now()
	v := &verdicts{
		t: t, max: int(max), log: log, base: rand.Uint32(),
		now:   func() uint64 { return uint64(time.Since(start)) },
		links: map[dataplane.PortID]linked{}, ports: map[uint32]dataplane.PortID{}, known: map[verdictKey]*offered{},
		share: map[uint32]int{}, left: map[uint32][]verdictValue{},
	}
	return v, t.all(func(k verdictKey, e verdictValue) bool {
		v.left[k.Port] = append(v.left[k.Port], e)
		return true
	})
}

// policy is what a generation of a port's layers is called in the tables.
func (v *verdicts) policy(generation uint64) uint32 { return v.base + uint32(generation) }

// plug has verdicts about the port be for its interface.
func (v *verdicts) plug(id dataplane.PortID, at linked) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.links[id], v.ports[at.ifindex] = at, id
}

// inherit takes up what an earlier process said of the port: old is the port as
// the tables have it.
func (v *verdicts) inherit(sw source, id dataplane.PortID, old portValue) {
	v.mu.Lock()
	at := v.links[id]
	left := v.left[at.ifindex]
	delete(v.left, at.ifindex)
	v.mu.Unlock()
	for _, e := range left {
		keep := false
		var generation uint64
		if e.Reason == 0 && e.Policy == old.Policy {
			generation, keep = sw.Restore(dataplane.FlowVerdict{Port: id, Key: e.Key.flow(), Reply: e.Reply != 0})
		}
		if keep {
			e.Policy = v.policy(generation)
		}
		v.takeOver(e, at.tenant, keep)
	}
}

// takeOver makes an earlier process's verdict ours, or takes it out.
func (v *verdicts) takeOver(e verdictValue, tenant uint32, keep bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !keep {
		_ = v.failed(erase(v.t, e.Key))
		return
	}
	if v.failed(put(v.t, e.Key, e)) {
		v.note(e.Key, &offered{tenant: tenant, reply: e.Reply != 0, packets: e.Packets, bytes: e.Bytes})
	}
}

// settle takes out what is left of ports that are gone.
func (v *verdicts) settle() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var gone []verdictKey
	for _, l := range v.left {
		for _, e := range l {
			gone = append(gone, e.Key)
		}
	}
	clear(v.left)
	return v.t.delete(gone)
}

func (v *verdicts) unplug(id dataplane.PortID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	at, ok := v.links[id]
	if !ok {
		return
	}
	delete(v.links, id)
	delete(v.ports, at.ifindex)
	var gone []verdictKey
	for k := range v.known {
		if k.Port == at.ifindex {
			gone = append(gone, k)
			v.forget(k)
		}
	}
	_ = v.failed(v.t.delete(gone))
}

// keyOf gives the key of a flow's direction at a port; with mu.
func (v *verdicts) keyOf(id dataplane.PortID, k flow.Key) (key verdictKey, at linked, ok bool) {
	at, ok = v.links[id]
	return verdictKey{
		Port: at.ifindex, SPort: k.SrcPort, DPort: k.DstPort, Src: k.Src, Dst: k.Dst, Dir: k.Dir, Proto: k.Proto,
	}, at, ok
}

func (k verdictKey) flow() flow.Key {
	f := flow.Key{Src: k.Src, Dst: k.Dst, SrcPort: k.SPort, DstPort: k.DPort, Proto: k.Proto, Family: 6, Dir: k.Dir, Kind: flow.KindPorts}
	if k.Src.netip().Is4() {
		f.Family = 4
	}
	return f
}

// Offer makes it, with Withdraw and Passed, a dataplane.Offloader.
func (v *verdicts) Offer(o dataplane.FlowVerdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key, at, ok := v.keyOf(o.Port, o.Key)
	if !ok {
		return
	}
	e := verdictValue{Key: key, Reason: uint32(o.Reason), Policy: v.policy(o.Generation), Seen: v.now()}
	if o.Reply {
		e.Reply = 1
	}
	had := v.known[key]
	if had == nil && v.share[at.tenant] >= v.max-len(v.known) {
		v.refused++
		return
	}
	if had != nil { // what was not told of yet is not to be lost
		if old, ok, _ := v.t.get(key); ok {
			e.Packets, e.Bytes = old.Packets, old.Bytes
		}
	}
	if v.failed(put(v.t, key, e)) && had == nil {
		v.note(key, &offered{tenant: at.tenant, reply: o.Reply})
	}
}

// note and forget keep count of what is in the table; with mu.
func (v *verdicts) note(k verdictKey, o *offered) {
	v.forget(k)
	v.known[k] = o
	v.share[o.tenant]++
}

func (v *verdicts) forget(k verdictKey) {
	o := v.known[k]
	if o == nil {
		return
	}
	delete(v.known, k)
	if v.share[o.tenant]--; v.share[o.tenant] == 0 {
		delete(v.share, o.tenant)
	}
}

// failed tells of an error, and that there is none.
func (v *verdicts) failed(err error) (fine bool) {
	if err != nil && time.Since(v.complain) > time.Second {
		v.complain = time.Now()
		v.log.Warn("the fast path cannot write a verdict: its flow goes through user space", "err", err)
	}
	return err == nil
}

// Withdraw takes a verdict out.
func (v *verdicts) Withdraw(id dataplane.PortID, k flow.Key) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if key, _, ok := v.keyOf(id, k); ok && v.known[key] != nil {
		v.withdraw(key)
	}
}

func (v *verdicts) withdraw(k verdictKey) {
	_ = v.failed(erase(v.t, k))
	v.forget(k)
}

// passedBy is a verdict that was made use of.
type passedBy struct {
	key            verdictKey
	at             dataplane.FlowVerdict
	idle           time.Duration
	packets, bytes uint64
}

// Passed tells of the packets that verdicts were good for.
func (v *verdicts) Passed(yield func(o dataplane.FlowVerdict, idle time.Duration, packets, bytes uint64) (stays bool)) {
	v.mu.Lock()
	used, gone := v.look()
	for _, k := range gone {
		v.withdraw(k)
	}
	v.mu.Unlock()
	for _, h := range used { // no lock of ours is held where the Switch's may be taken
		if !yield(h.at, h.idle, h.packets, h.bytes) {
			v.Withdraw(h.at.Port, h.at.Key)
		}
	}
}

// look goes through the table: what was made use of since it was last, and what was
// not for long; with mu.
func (v *verdicts) look() (used []passedBy, gone []verdictKey) {
	if len(v.known) == 0 {
		return nil, nil
	}
	now := v.now()
	_ = v.failed(v.t.all(func(k verdictKey, e verdictValue) bool {
		o := v.known[k]
		if o == nil {
			return true
		}
		idle := time.Duration(max(0, int64(now-e.Seen)))
		if e.Packets != o.packets {
			at := dataplane.FlowVerdict{Port: v.ports[k.Port], Key: k.flow(), Generation: uint64(e.Policy - v.base), Reply: o.reply, Reason: drop.Reason(e.Reason)}
			used = append(used, passedBy{k, at, idle, e.Packets - o.packets, e.Bytes - o.bytes})
			o.packets, o.bytes = e.Packets, e.Bytes
		} else if idle > idleVerdict {
			gone = append(gone, k)
		}
		return true
	}))
	return used, gone
}

// Offer, Withdraw and Passed make the mirror a dataplane.Offloader.
func (m *mirror) Offer(o dataplane.FlowVerdict) { m.verdicts.Offer(o) }

// Withdraw takes a verdict back.
func (m *mirror) Withdraw(id dataplane.PortID, k flow.Key) { m.verdicts.Withdraw(id, k) }

// Passed tells of the packets that verdicts were good for.
func (m *mirror) Passed(yield func(o dataplane.FlowVerdict, idle time.Duration, packets, bytes uint64) (stays bool)) {
	m.verdicts.Passed(yield)
}

// announce comes before a port is written for the first time.
func (m *mirror) announce(p *plug, v portValue) error {
	old, _, err := m.t.ports.get(v.Ifindex)
	m.verdicts.plug(p.id, linked{v.Ifindex, v.Tenant})
	if v.Policy != 0 {
		m.verdicts.inherit(m.sw, p.id, old)
	}
	return err
}
