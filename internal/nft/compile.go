package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables/expr"

	"github.com/hnvgate/hnvgate/internal/nfnl"
)

func native32(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// compiled is a Table in the kernel's terms, checked.
type compiled struct {
	family   Family
	name     string
	counters []string
	sets     []compiledSet
	chains   []compiledChain
}

type compiledChain struct {
	name  string
	hook  *Hook
	rules []compiledRule
}

type compiledRule struct {
	exprs    []byte // the list inside NFTA_RULE_EXPRESSIONS
	userdata []byte
}

type compiledSet struct {
	name  string
	def   setDef
	elems []elem
}

// setDef is what cannot be changed in a set that exists.
type setDef struct {
	flags             uint32
	keyType, keyLen   uint32
	dataType, dataLen uint32
	size              uint32 // the most elements; 0 is no bound
	fields            string // lengths of the key's fields, where they are needed
	timeout           uint64 // milliseconds; 0 is for good
}

// elem is one element as it travels to and from the kernel.
type elem struct {
	key, keyEnd, data string
	end               bool // closes the interval that the element before it opens
	alien             bool // it has something we never write: a timeout, an expression
}

func compile(t Table) (compiled, error) {
	c := compiled{family: t.Family, name: t.Name, counters: t.Counters}
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("table %s %s: "+format, append([]any{t.Family, t.Name}, args...)...))
	}
	names := map[string]bool{}
	declare := func(kind, name string) {
		if name == "" || len(name) > 127 || names[kind+name] {
			bad("%s %q is named twice or has no usable name", kind, name)
		}
		names[kind+name] = true
	}
	for _, n := range t.Counters {
		declare("counter ", n)
	}
	for _, s := range t.Sets {
		declare("set ", s.Name)
		cs, err := compileSet(s)
		if err != nil {
			bad("%w", err)
		}
		c.sets = append(c.sets, cs)
	}
	for _, ch := range t.Chains {
		declare("chain ", ch.Name)
	}
	for _, ch := range t.Chains {
		cc := compiledChain{name: ch.Name, hook: ch.Hook}
		for _, r := range ch.Rules {
			for _, s := range r.Stmts {
				for _, u := range [...][2]string{{"set ", s.set}, {"counter ", s.counter}, {"chain ", s.chain}} {
					if kind, name := u[0], u[1]; name != "" && !names[kind+name] {
						bad("chain %s: rule %q uses %s%s, which the table does not have", ch.Name, r, kind, name)
					}
				}
			}
			cr, err := compileRule(t.Family, r)
			if err != nil {
				bad("chain %s: rule %q: %w", ch.Name, r, err)
			}
			cc.rules = append(cc.rules, cr)
		}
		c.chains = append(c.chains, cc)
	}
	return c, errors.Join(errs...)
}

func compileRule(f Family, r Rule) (compiledRule, error) {
	comp := compiler{family: f}
	for _, s := range r.Stmts {
		s.build(&comp)
	}
	var out compiledRule
	for _, e := range comp.out {
		b, err := marshal(f, e)
		if err != nil {
			return out, err
		}
		if _, ok := e.(*expr.Dynset); ok {
			b = nestedExpr(b)
		}
		out.exprs = nfnl.AppendNested(out.exprs, listElem, b)
	}
	if len(out.exprs) > nfnl.MaxAttr {
		return out, errors.New("too long")
	}
	if r.Comment != "" {
		if len(r.Comment) > 127 {
			return out, errors.New("comment is longer than 127 bytes")
		}
		out.userdata = comment(r.Comment)
	}
	return out, nil
}

// comment is a note of type 0; its length is that with the closing zero.
func comment(text string) []byte {
	return append([]byte{0, byte(len(text) + 1)}, append([]byte(text), 0)...)
}

// nestedExpr flags the expression inside a dynset as what it is, which the
// library leaves out: so it is compared part by part, like all others.
func nestedExpr(b []byte) []byte {
	const dynsetExpr = 7
	name, data, _ := splitExpr(b)
	var out []byte
	list, _ := attrs(data)
	for _, a := range list {
		typ := a.Type
		if typ == dynsetExpr {
			typ |= nfnl.Nested
		}
		out = nfnl.Append(out, typ, a.Data)
	}
	return nfnl.AppendNested(nfnl.AppendString(nil, exprName, name), exprData, out)
}

func compileSet(s Set) (compiledSet, error) {
	c := compiledSet{name: s.Name, def: setDef{
		keyType: typesMagic(s.Key), keyLen: uint32(typesSize(s.Key)),
	}}
	if len(s.Value) > 0 {
		c.def.flags |= setMap
		c.def.dataType, c.def.dataLen = typesMagic(s.Value), uint32(typesSize(s.Value))
	}
	concat := len(s.Key) > 1
	if s.Interval {
		c.def.flags |= setInterval
	}
	if s.Dynamic {
		c.def.flags |= setDynamic
		c.def.size = s.Size
		if s.Timeout > 0 {
			c.def.flags |= setExpiring
			c.def.timeout = uint64(s.Timeout.Milliseconds())
		}
		if s.Size == 0 || len(s.Elements) > 0 || s.Interval {
			return c, fmt.Errorf("set %s: a dynamic set has a size, and neither elements nor intervals", s.Name)
		}
	}
	if s.Interval && concat { // such a set must know its fields
		c.def.flags |= setConcat
		for _, t := range s.Key {
			c.def.fields += string(rune(t.size))
		}
	}
	for _, e := range sortedElements(s.Elements) {
		if len(e.Key) != len(s.Key) || len(e.Value) != len(s.Value) {
			return c, fmt.Errorf("set %s: element %s has not the fields of the set", s.Name, e)
		}
		lo, hi, single, err := joinValues(e.Key, s.Key)
		if err != nil {
			return c, fmt.Errorf("set %s: element %s: %w", s.Name, e, err)
		}
		data, _, one, err := joinValues(e.Value, s.Value)
		if err == nil && !one || !single && !s.Interval {
			err = errors.New("a range stands where the set holds single values")
		}
		if err != nil {
			return c, fmt.Errorf("set %s: element %s: %w", s.Name, e, err)
		}
		switch {
		case !s.Interval:
			c.elems = append(c.elems, elem{key: lo, data: data})
		case concat:
			c.elems = append(c.elems, elem{key: lo, keyEnd: hi, data: data})
		default:
			c.elems = append(c.elems, elem{key: lo, data: data})
			if next, ok := successor(hi); ok {
				c.elems = append(c.elems, elem{key: next, end: true})
			}
		}
	}
	return c, nil
}

func joinValues(vs []Value, ts []Type) (lo, hi string, single bool, err error) {
	for i, v := range vs {
		if len(v.lo) != ts[i].size {
			return "", "", false, fmt.Errorf("%s is not of type %s", v.text, ts[i].name)
		}
		pad := ""
		if len(vs) > 1 {
			pad = string(make([]byte, align4(ts[i].size)-ts[i].size))
		}
		lo += string(v.lo) + pad
		hi += string(v.hi) + pad
	}
	return lo, hi, lo == hi, nil
}

// successor gives the next key; false after the last one.
func successor(key string) (string, bool) {
	b := []byte(key)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]++
		if b[i] != 0 {
			return string(b), true
		}
	}
	return "", false
}
