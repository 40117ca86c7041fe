//go:build linux

package ct

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/nfnl"
)

const (
	subsystem   = 1 // NFNL_SUBSYS_CTNETLINK
	msgNew      = subsystem<<8 | 0
	msgGet      = subsystem<<8 | 1
	msgDelete   = subsystem<<8 | 2
	msgGetStats = subsystem<<8 | 5

	statsEntries = 1 // CTA_STATS_GLOBAL_ENTRIES
)

// Conn reaches the connection tracking of one network namespace.
type Conn struct{ nl *nfnl.Conn }

// Open opens a connection to the namespace at nsPath; "" is the caller's own.
func Open(nsPath string) (*Conn, error) {
	nl, err := nfnl.Dial(nsPath)
	if err != nil {
		return nil, err
	}
	return &Conn{nl}, nil
}

// Over reaches it by a socket that is open already, and that is not this Conn's to
// close.
func Over(nl *nfnl.Conn) *Conn { return &Conn{nl} }

// Close closes the connection.
func (c *Conn) Close() error { return c.nl.Close() }

// Each hands every entry to the callback, which must not use c. Entries that
// come or go meanwhile may be missed.
func (c *Conn) Each(each func(Entry) error) error {
	return c.nl.Dump(nfnl.Message{Type: msgGet, What: "list connections"}, func(r nfnl.Reply) error {
		if r.Type != msgNew {
			return nil
		}
		e, err := Parse(r.Data)
		if err != nil {
			return err
		}
		return each(e)
	})
}

// Delete removes this very entry. One that is gone already, also where another
// connection took its addresses since, is fine: deleted is false then.
func (c *Conn) Delete(e Entry) (deleted bool, err error) {
	family := uint8(unix.AF_INET)
	if e.Orig.Src.Addr().Is6() {
		family = unix.AF_INET6
	}
	b := e.Orig.append(nil, ctTupleOrig)
	b = nfnl.AppendUint32(b, ctID, e.ID)
	if e.Zone != 0 {
		b = nfnl.AppendUint16(b, ctZone, e.Zone)
	}
	err = c.nl.Get(nfnl.Message{Type: msgDelete, Family: family, Data: b, What: "delete connection"},
		func(nfnl.Reply) error { return nil })
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// Count tells how many entries there are.
func (c *Conn) Count() (int, error) {
	var n uint32
	err := c.nl.Get(nfnl.Message{Type: msgGetStats, What: "count connections"}, func(r nfnl.Reply) error {
		for a, err := range nfnl.Attrs(r.Data) {
			if err != nil {
				return err
			}
			if a.Type == statsEntries {
				if n, err = a.Uint32(); err != nil {
					return fmt.Errorf("number of entries: %w", err)
				}
			}
		}
		return nil
	})
	return int(n), err
}
