//go:build linux

package nft

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/nfnl"
)

// attempts bounds how often Apply starts over because someone else changed the
// ruleset between its reading and its writing.
const attempts = 8

// Conn reaches the nftables of one network namespace. Its methods may be called
// from any thread.
type Conn struct{ nl *nfnl.Conn }

// Open opens a connection to the namespace at nsPath; "" is the caller's own.
func Open(nsPath string) (*Conn, error) {
	nl, err := nfnl.Dial(nsPath)
	if err != nil {
		return nil, err
	}
	return &Conn{nl}, nil
}

// Socket is what the connection goes by, for others who ask the namespace's netfilter
// while it is open.
func (c *Conn) Socket() *nfnl.Conn { return c.nl }

// Close closes the connection. The tables stay.
func (c *Conn) Close() error { return c.nl.Close() }

// Apply makes the kernel's table equal to t in one atomic batch and says in
// words what it changed; nothing, when nothing differed. What does not differ
// is not touched: counters, limits and counts of connections go on.
func (c *Conn) Apply(t Table) (changes []string, err error) {
	want, err := compile(t)
	if err != nil {
		return nil, err
	}
	f, err := c.Put(Program{c: want})
	return f.Changes, err
}

// Put is Apply for a table that is compiled already. It tells what it takes to seal
// the table.
func (c *Conn) Put(p Program) (f Found, err error) {
	for range attempts {
		if f, err = c.put(p.c); !again(err) {
			break
		}
	}
	if err != nil {
		return Found{}, fmt.Errorf("apply table %s %s: %w", p.c.family, p.c.name, err)
	}
	return f, nil
}

func (c *Conn) put(want compiled) (Found, error) {
	have, err := observe(c.nl, want.family, want.name)
	if err != nil {
		return Found{}, err
	}
	msgs, changes := plan(want, have)
	if err := c.nl.Batch(subsystem, have.generation, msgs); err != nil {
		return Found{}, err
	}
	f := Found{Changes: changes, Generation: have.generation}
	if len(msgs) > 0 {
		f.Generation = nextGeneration(have.generation)
		if msgs[0].Type == msgDelTable {
			return f, nil // the seals with it
		}
	}
	for i := range have.chains {
		if have.chains[i].isSeal() {
			f.seals = append(f.seals, have.chains[i].name)
		}
	}
	return f, nil
}

// Delete removes the table; one that is not there is fine.
func (c *Conn) Delete(f Family, name string) error {
	p := planner{want: compiled{family: f, name: name}}
	p.add(msgDelTable, 0, "delete table "+name, nil)
	if err := c.nl.Batch(subsystem, 0, p.msgs); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("table %s %s: %w", f, name, err)
	}
	return nil
}

// Counters reads the named counters of the table.
func (c *Conn) Counters(f Family, table string) (map[string]Counter, error) {
	for range attempts {
		objects, err := readObjects(c.nl, f, table)
		if again(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		counters := make(map[string]Counter, len(objects))
		for _, o := range objects {
			if o.typ == objectCounter {
				counters[o.name] = o.counter
			}
		}
		return counters, nil
	}
	return nil, fmt.Errorf("read counters of table %s %s: %w", f, table, nfnl.ErrInterrupted)
}

// Cookie tells the namespace from all others that there were since the machine
// started; 0 where the kernel does not tell (before 5.14).
func (c *Conn) Cookie() uint64 { return c.nl.Cookie() }

// Exists tells whether the table is there.
func (c *Conn) Exists(f Family, name string) (bool, error) {
	for range attempts {
		have, err := observe(c.nl, f, name)
		if !again(err) {
			return have.exists, err
		}
	}
	return false, fmt.Errorf("look for table %s %s: %w", f, name, nfnl.ErrInterrupted)
}
