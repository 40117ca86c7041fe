//go:build linux

package offload

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// UplinkOptions say how to open an Uplink.
type UplinkOptions struct {
	// Instance is the gateway's name: filters bear it.
	Instance string
	// Namespace is the path of the network namespace that has the uplinks; "" is
	// the calling thread's.
	Namespace string
	Sizes     Sizes // of Externals and Exits
	// FastPath, if there is one with NATOffload in this namespace, shares its
	// tables: exits may have NAT then.
	FastPath *FastPath
}

// Uplink forwards in the kernel's eBPF programs what compartments and the outside
// send each other over `routed` uplinks. The routes, neighbours and rules that
// package compartments makes stay as they are: the programs take the common
// packets past them, and leave the others to them, with one exception. What a
// compartment sends is dropped here unless it comes from an external address, or
// port, of its own.
//
// An Uplink is for one gateway's namespace. Its methods may be called at once.
type Uplink struct {
	*exits
	h        *nl.Handle
	k        *uplinkKernel
	programs map[string]numbered // as filters name them
	hooks    hooks               // noted where FastPath does, if there is one
}

// The programs, as filters name them.
const (
	progUplink   = "from_uplink"
	progExternal = "from_external"
)

// OpenUplink loads the programs. No packet is touched until an exit is set or an
// uplink attached.
func OpenUplink(o UplinkOptions) (*Uplink, error) {
	h, err := nl.Open(o.Namespace)
	if err != nil {
		return nil, fmt.Errorf("open the uplink's fast path: %w", err)
	}
	u := &Uplink{h: h, hooks: hooks{h: h, instance: o.Instance, turn: new(sync.Mutex)}}
	with, sizes := (*kernel)(nil), o.Sizes.fill()
	if o.FastPath != nil {
		with, sizes = o.FastPath.k, o.FastPath.sizes
		u.hooks.made, u.hooks.turn = o.FastPath.hooks.made, o.FastPath.hooks.turn
	}
	if u.k, err = loadUplink(uplinkOptions{sizes: sizes, with: with}); err == nil {
		u.programs = map[string]numbered{progUplink: numberOf(u.k.inward), progExternal: numberOf(u.k.outward)}
		u.exits, err = newExits(u.k.tables(), sizes.Exits)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the uplink's fast path: %w", err), u.Close())
	}
	return u, nil
}

// Attach has the programs take what arrives on an uplink for compartments. Those
// have their exits before.
func (u *Uplink) Attach(uplink int) error { return u.attach(uplink, progUplink) }

// Detach leaves what arrives to the kernel's forwarding.
func (u *Uplink) Detach(uplink int) error { return u.detach(uplink) }

// Set makes the exit what it says, and all that it says: the tables first, and
// then the check of what leaves.
func (u *Uplink) Set(e Exit) error {
	if err := u.exits.Set(e); err != nil {
		return err
	}
	return u.attach(e.Link, progExternal)
}

// Remove leaves a compartment's link to the kernel's forwarding. It is no error if
// it is gone.
func (u *Uplink) Remove(link int) error {
	if err := u.detach(link); err != nil {
		return err
	}
	return u.exits.Remove(link)
}

// Close ends this process's part. Programs and tables stay, and packets pass as
// before.
func (u *Uplink) Close() error {
	var err error
	if u.k != nil {
		err = u.k.close()
	}
	u.h.Close()
	return err
}

// attach puts the program at the interface's ingress, in the place of what an
// earlier process of the instance had there.
func (u *Uplink) attach(ifindex int, program string) error {
	return u.hooks.set(ifindex, program, u.programs[program])
}

func (u *Uplink) detach(ifindex int) error {
	if _, err := u.hooks.remove(ifindex, progUplink, progExternal); err != nil {
		return fmt.Errorf("detach from interface %d: %w", ifindex, err)
	}
	return nil
}
