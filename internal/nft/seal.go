//go:build linux

package nft

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/nfnl"
)

// A seal is a chain that no packet meets. Its name tells what the table was made from
// and which generation of the ruleset it made, which was known before: a batch carries
// the generation that it is for, and makes the next one. Any change by anyone makes
// another, so that a ruleset of the seal's generation is the one that was sealed.
//
//	sealed-<half of the SHA-256 of the compiled table>-<generation>
const sealPrefix = "sealed-"

const sealComment = "the table was found right at this generation of the ruleset"

// A Program is a Table in the kernel's terms.
type Program struct {
	c      compiled
	digest string
}

// Compile checks the table.
func Compile(t Table) (Program, error) {
	c, err := compile(t)
	if err != nil {
		return Program{}, err
	}
	return Program{c: c, digest: c.digest()}, nil
}

// Found is how a table is since Put.
type Found struct {
	Changes    []string // what Put changed, in words
	Generation uint32   // of the ruleset with the table as it should be
	seals      []string
}

// Sealed tells whether the ruleset is, to this day, one of which Seal said that the
// table in it is this. It costs two small requests, however large the table is.
func (c *Conn) Sealed(p Program) (bool, error) {
	gen, err := generation(c.nl)
	if err != nil {
		return false, err
	}
	// What changes between the two is a change after the look.
	m := ask(msgGetChain, p.c.family, p.c.name, "look for the seal")
	m.Data = nfnl.AppendString(m.Data, chainName, p.seal(gen))
	err = c.nl.Get(m, func(nfnl.Reply) error { return nil })
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// Seal notes in the ruleset that the table in it is this, as Put found, unless
// somebody changed the ruleset since. It gives the new generation; 0 if not.
func (c *Conn) Seal(p Program, f Found) (uint32, error) {
	if slices.Equal(f.seals, []string{p.seal(f.Generation)}) {
		return f.Generation, nil
	}
	pl := planner{want: p.c}
	for _, s := range f.seals {
		pl.add(msgDelChain, 0, "delete chain "+s, nfnl.AppendString(nil, chainName, s))
	}
	next := nextGeneration(f.Generation)
	b := nfnl.AppendString(nil, chainName, p.seal(next))
	b = nfnl.Append(b, chainUserdata, comment(sealComment))
	pl.add(msgNewChain, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "add the seal", b)
	err := c.nl.Batch(subsystem, f.Generation, pl.msgs)
	if errors.Is(err, nfnl.ErrChanged) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("seal table %s %s: %w", p.c.family, p.c.name, err)
	}
	return next, nil
}

// nextGeneration is what a batch makes of a generation.
func nextGeneration(n uint32) uint32 { return max(n+1, 1) } // the kernel leaves 0 out

func (p Program) seal(generation uint32) string {
	return fmt.Sprintf("%s%s-%d", sealPrefix, p.digest, generation)
}

// isSeal tells whether it is one, and nothing else.
func (o *observedChain) isSeal() bool {
	return o.hook == nil && len(o.rules) == 0 && strings.HasPrefix(o.name, sealPrefix)
}

// digest stands for all of a table; elements of dynamic sets are not of it.
func (c *compiled) digest() string {
	h := sha256.New()
	var b []byte
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	number := func(n uint32) { b = binary.AppendUvarint(b, uint64(n)) }
	list := func(n int) {
		number(uint32(n))
		_, _ = h.Write(b) // never fails
		b = b[:0]
	}
	number(uint32(c.family))
	text(c.name)
	for _, n := range c.counters {
		text(n)
	}
	list(len(c.counters))
	for _, s := range c.sets {
		text(s.name)
		text(s.def.fields)
		for _, n := range []uint32{s.def.flags, s.def.keyType, s.def.keyLen, s.def.dataType, s.def.dataLen, s.def.size} {
			number(n)
		}
		for _, e := range s.elems {
			text(e.key)
			text(e.keyEnd)
			text(e.data)
			b = append(b, bit(e.end), bit(e.alien))
		}
		list(len(s.elems))
	}
	for _, ch := range c.chains {
		text(ch.name)
		if k := ch.hook; k != nil {
			text(string(k.Type))
			text(string(k.At))
			text(k.Device)
			number(uint32(k.Priority))
			b = append(b, bit(k.Drop))
		}
		for _, r := range ch.rules {
			text(string(r.exprs))
			text(string(r.userdata))
		}
		list(len(ch.rules))
	}
	list(len(c.chains))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
