package offload

import (
	"errors"
	"fmt"
	"time"
)

// NAT says how an exit's connections are translated in the programs, once the
// compartment has established them.
type NAT struct {
	Port int // index of the interface that the compartment's port is behind
	// Netns is the number of the compartment's namespace in the gateway's
	// (RTM_GETNSID).
	Netns int
	// TCPTimeout and UDPTimeout are for how long the compartment remembers an
	// established connection without packets, to the millisecond.
	TCPTimeout, UDPTimeout time.Duration
}

func (n NAT) check() error {
	if n.Port <= 0 || n.Netns < 0 || n.TCPTimeout < time.Second || n.UDPTimeout < time.Second {
		return fmt.Errorf("NAT offload for interface %d, namespace %d, with timeouts %s and %s: each must be given", n.Port, n.Netns, n.TCPTimeout, n.UDPTimeout)
	}
	return nil
}

// The entries, as bpf/nat.h has them.
type (
	natExit struct {
		Generation         uint32
		On                 uint32
		Port, Link, Uplink uint32
		MTU                uint32
		Netns              int32
		TCPMs, UDPMs       uint32
	}

	flowKey struct {
		From, Proto  uint32
		Src, Dst     addr
		Sport, Dport [2]byte // in network byte order
	}

	flowValue struct {
		Key              flowKey
		Slot             uint32
		Generation       uint32
		As               flowEnds
		Hop              flowHop
		Pad              uint32
		Checked, Touched uint64
		Epoch            uint64
		Arrived          flowArrived
		Way              flowWay
	}

	flowEnds struct {
		Src, Dst     addr
		Sport, Dport uint16
	}

	flowHop struct {
		Family uint32
		Hop    [4]uint32
	}

	flowArrived struct {
		PA        addr
		SMAC      [6]byte
		Rule, Pad uint8
	}

	flowWay struct {
		Src, Dst      addr
		Ifindex       uint32
		Overhead      uint16
		VXLAN, IPv6   uint8
		MTU, Hash     uint32
		VSID, Slot    uint32
		MAC           [6]byte
		Free, KeepMAC uint8
	}
)

// natTables are those by which the programs translate.
type natTables struct {
	exits table[uint32, natExit] // by slot
	slots table[uint32, uint32]  // by interface
}

// nats keeps which exits' connections are translated in the programs. Slots are
// given to another exit as late as can be, and with another generation.
type nats struct {
	t     *natTables // nil: none are
	slots slots      // by link
	exits map[uint32]natExit
}

func newNATs(t *natTables, max uint32) (*nats, error) {
	n := &nats{t: t, slots: newSlots(max), exits: map[uint32]natExit{}}
	if t == nil {
		return n, nil
	}
	err := t.exits.all(func(slot uint32, v natExit) bool {
		if v.Generation == 0 {
			return true
		}
		n.exits[slot] = v
		if v.On != 0 {
			n.slots.take(v.Link, slot)
		}
		return true
	})
	return n, err
}

// set has the exit's connections translated, or not if want is nil. A change makes
// every flow of it be looked at anew.
func (n *nats) set(e Exit, changed bool) error {
	link := uint32(e.Link)
	if n.t == nil {
		if e.NAT != nil {
			return errors.New("NAT offload needs the fast path")
		}
		return nil
	}
	if e.NAT == nil {
		return n.remove(link)
	}
	slot, _, err := n.slots.get(link)
	if err != nil {
		return err
	}
	was := n.exits[slot]
	v := natExit{
		Generation: was.Generation, On: 1, Port: uint32(e.NAT.Port), Link: link, Uplink: uint32(e.Uplink), MTU: uint32(e.MTU), Netns: int32(e.NAT.Netns),
		TCPMs: uint32(e.NAT.TCPTimeout.Milliseconds()), UDPMs: uint32(e.NAT.UDPTimeout.Milliseconds()),
	}
	if v != was || changed {
		if v.Generation++; v.Generation == 0 {
			v.Generation = 1
		}
		if err := put(n.t.exits, slot, v); err != nil {
			return err
		}
		n.exits[slot] = v
	}
	if was.On != 0 && was.Port != v.Port {
		if err := erase(n.t.slots, was.Port); err != nil {
			return err
		}
	}
	return n.t.slots.put([]uint32{v.Port, v.Link}, []uint32{slot, slot})
}

// anew has the exit's flows be looked at anew.
func (n *nats) anew(link uint32) error {
	slot, ok := n.slots.of[link]
	if !ok {
		return nil
	}
	v := n.exits[slot]
	if v.Generation++; v.Generation == 0 {
		v.Generation = 1
	}
	if err := put(n.t.exits, slot, v); err != nil {
		return err
	}
	n.exits[slot] = v
	return nil
}

func (n *nats) remove(link uint32) error {
	slot, ok := n.slots.of[link]
	if !ok {
		return nil
	}
	v := natExit{Generation: n.exits[slot].Generation + 1}
	if v.Generation == 0 {
		v.Generation = 1
	}
	if err := put(n.t.exits, slot, v); err != nil {
		return err
	}
	port := n.exits[slot].Port
	n.exits[slot] = v
	n.slots.free(link)
	return n.t.slots.delete([]uint32{port, link})
}
