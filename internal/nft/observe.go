package nft

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hnvgate/hnvgate/internal/nfnl"
)

// observed is a table as the kernel holds it.
type observed struct {
	generation uint32
	exists     bool
	flags      uint32
	chains     []observedChain
	sets       []observedSet
	objects    []observedObject
}

type observedChain struct {
	name  string
	hook  *Hook
	rules []compiledRule
}

type observedSet struct {
	name      string
	def       setDef
	anonymous bool
	elems     []elem
}

type observedObject struct {
	name    string
	typ     uint32
	counter Counter
}

// dumper is the part of nfnl.Conn that reading needs.
type dumper interface {
	Dump(nfnl.Message, func(nfnl.Reply) error) error
	Get(nfnl.Message, func(nfnl.Reply) error) error
}

func generation(d dumper) (id uint32, err error) {
	err = d.Get(nfnl.Message{Type: msgGetGen, What: "read ruleset generation"}, func(r nfnl.Reply) error {
		for a, err := range nfnl.Attrs(r.Data) {
			if err != nil {
				return err
			}
			if a.Type == genID {
				id, err = a.Uint32()
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	return id, err
}

// observe reads one table. What it gives was true at once, at the generation it
// names; where that cannot be had the error is nfnl.ErrInterrupted or ErrChanged.
func observe(d dumper, family Family, name string) (observed, error) {
	var o observed
	var err error
	if o.generation, err = generation(d); err != nil {
		return o, err
	}
	err = d.Dump(nfnl.Message{Type: msgGetTable, Family: uint8(family), What: "list tables"}, func(r nfnl.Reply) error {
		var got string
		var flags uint32
		for a, err := range nfnl.Attrs(r.Data) {
			switch {
			case err != nil:
				return err
			case a.Type == tableName:
				got = a.Text()
			case a.Type == tableFlags:
				if flags, err = a.Uint32(); err != nil {
					return err
				}
			}
		}
		if got == name && r.Family == uint8(family) {
			o.exists, o.flags = true, flags
		}
		return nil
	})
	if err != nil || !o.exists {
		return o, err
	}
	steps := []func() error{
		func() error { return o.readChains(d, family, name) },
		func() error { return o.readRules(d, family, name) },
		func() error { return o.readSets(d, family, name) },
		func() (err error) { o.objects, err = readObjects(d, family, name); return err },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return o, err
		}
	}
	after, err := generation(d)
	if err == nil && after != o.generation {
		err = nfnl.ErrChanged
	}
	return o, err
}

// ask makes a request about one table.
func ask(typ uint16, family Family, table, what string) nfnl.Message {
	return nfnl.Message{Type: typ, Family: uint8(family), What: what + " of table " + table,
		Data: nfnl.AppendString(nil, tableName, table)}
}

// ofTable tells whether a reply is about the table: older kernels do not filter.
func ofTable(r nfnl.Reply, family Family, table string) bool {
	if r.Family != uint8(family) {
		return false
	}
	for a, err := range nfnl.Attrs(r.Data) {
		if err == nil && a.Type == tableName {
			return a.Text() == table
		}
	}
	return false
}

func (o *observed) readChains(d dumper, family Family, table string) error {
	return d.Dump(ask(msgGetChain, family, table, "list chains"), func(r nfnl.Reply) error {
		if !ofTable(r, family, table) {
			return nil
		}
		var c observedChain
		var h Hook
		for a, err := range nfnl.Attrs(r.Data) {
			if err != nil {
				return err
			}
			switch a.Type {
			case chainName:
				c.name = a.Text()
			case chainType:
				h.Type = ChainType(a.Text())
			case chainPolicy:
				policy, err := a.Uint32()
				if err != nil {
					return err
				}
				h.Drop = policy == 0
			case chainHook:
				c.hook = &h
				if err := h.read(a.Data, family); err != nil {
					return err
				}
			}
		}
		o.chains = append(o.chains, c)
		return nil
	})
}

func (h *Hook) read(b []byte, family Family) error {
	for a, err := range nfnl.Attrs(b) {
		if err != nil {
			return err
		}
		switch a.Type {
		case hookNum:
			n, err := a.Uint32()
			if err != nil {
				return err
			}
			h.At = hookPoint(n, family)
		case hookPriority:
			n, err := a.Uint32()
			if err != nil {
				return err
			}
			h.Priority = int32(n)
		case hookDev:
			h.Device = a.Text()
		}
	}
	return nil
}

func hookPoint(n uint32, family Family) HookPoint {
	if family == NetDev {
		if n == 0 {
			return Ingress
		}
		return "egress"
	}
	for _, p := range []HookPoint{Prerouting, Input, Forward, Output, Postrouting} {
		if p.number() == n {
			return p
		}
	}
	return Ingress
}

func (o *observed) readRules(d dumper, family Family, table string) error {
	return d.Dump(ask(msgGetRule, family, table, "list rules"), func(r nfnl.Reply) error {
		if !ofTable(r, family, table) {
			return nil
		}
		var chain string
		var rule compiledRule
		for a, err := range nfnl.Attrs(r.Data) {
			if err != nil {
				return err
			}
			switch a.Type {
			case ruleChain:
				chain = a.Text()
			case ruleExprs:
				rule.exprs = slices.Clone(a.Data)
			case ruleUserdata:
				rule.userdata = slices.Clone(a.Data)
			}
		}
		for i := range o.chains {
			if o.chains[i].name == chain {
				o.chains[i].rules = append(o.chains[i].rules, rule)
				return nil
			}
		}
		return fmt.Errorf("rule of unknown chain %q: %w", chain, nfnl.ErrChanged)
	})
}

func (o *observed) readSets(d dumper, family Family, table string) error {
	err := d.Dump(ask(msgGetSet, family, table, "list sets"), func(r nfnl.Reply) error {
		if !ofTable(r, family, table) {
			return nil
		}
		var s observedSet
		for a, err := range nfnl.Attrs(r.Data) {
			if err != nil {
				return err
			}
			switch a.Type {
			case setName:
				s.name = a.Text()
			case setFlags:
				s.def.flags, err = a.Uint32()
				s.anonymous = s.def.flags&setAnonymous != 0
			case setKeyType:
				s.def.keyType, err = a.Uint32()
			case setKeyLen:
				s.def.keyLen, err = a.Uint32()
			case setDataType:
				s.def.dataType, err = a.Uint32()
			case setDataLen:
				s.def.dataLen, err = a.Uint32()
			case setDesc:
				s.def.size, s.def.fields, err = readDesc(a.Data)
			case setTimeout:
				s.def.timeout, err = a.Uint64()
			}
			if err != nil {
				return err
			}
		}
		o.sets = append(o.sets, s)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range o.sets {
		if s := &o.sets[i]; !s.anonymous && s.def.flags&setDynamic == 0 {
			if s.elems, err = readElements(d, family, table, s.name); err != nil {
				return err
			}
		}
	}
	return nil
}

// readDesc reads a set's bound and the lengths of the fields of its key.
func readDesc(desc []byte) (size uint32, fields string, err error) {
	for a, err := range nfnl.Attrs(desc) {
		if err != nil {
			return 0, "", err
		}
		switch a.Type {
		case descSize:
			if size, err = a.Uint32(); err != nil {
				return 0, "", err
			}
		case descConcat:
			if fields, err = readFields(a.Data); err != nil {
				return 0, "", err
			}
		}
	}
	return size, fields, nil
}

func readFields(list []byte) (string, error) {
	var fields string
	for item, err := range nfnl.Attrs(list) {
		if err != nil {
			return "", err
		}
		for l, err := range nfnl.Attrs(item.Data) {
			if err != nil {
				return "", err
			}
			if l.Type == fieldLength {
				n, err := l.Uint32()
				if err != nil {
					return "", err
				}
				fields += string(rune(n))
			}
		}
	}
	return fields, nil
}

func readElements(d dumper, family Family, table, set string) ([]elem, error) {
	m := ask(msgGetSetElem, family, table, "list elements of set "+set)
	m.Data = nfnl.AppendString(m.Data, elemListSet, set)
	var elems []elem
	err := d.Dump(m, func(r nfnl.Reply) error {
		for a, err := range nfnl.Attrs(r.Data) {
			if err != nil {
				return err
			}
			if a.Type != elemListElems {
				continue
			}
			for item, err := range nfnl.Attrs(a.Data) {
				if err != nil {
					return err
				}
				e, err := readElement(item.Data)
				if err != nil {
					return err
				}
				elems = append(elems, e)
			}
		}
		return nil
	})
	return elems, err
}

func readElement(b []byte) (elem, error) {
	var e elem
	for a, err := range nfnl.Attrs(b) {
		if err != nil {
			return e, err
		}
		switch a.Type {
		case elemKey:
			e.key, err = readValue(a.Data)
		case elemKeyEnd:
			e.keyEnd, err = readValue(a.Data)
		case elemData:
			e.data, err = readValue(a.Data)
		case elemFlags:
			var flags uint32
			flags, err = a.Uint32()
			e.end = flags&elemIntervalEnd != 0
			e.alien = e.alien || flags&^elemIntervalEnd != 0
		case elemTimeout, elemExpr, elemObject, elemExprs:
			e.alien = true
		}
		if err != nil {
			return e, err
		}
	}
	return e, nil
}

func readValue(b []byte) (string, error) {
	for a, err := range nfnl.Attrs(b) {
		if err != nil {
			return "", err
		}
		if a.Type == dataValue {
			return string(a.Data), nil
		}
	}
	return "", nil
}

func readObjects(d dumper, family Family, table string) ([]observedObject, error) {
	var objects []observedObject
	err := d.Dump(ask(msgGetObj, family, table, "list counters"), func(r nfnl.Reply) error {
		if !ofTable(r, family, table) {
			return nil
		}
		var o observedObject
		var data []byte
		for a, err := range nfnl.Attrs(r.Data) {
			if err != nil {
				return err
			}
			switch a.Type {
			case objName:
				o.name = a.Text()
			case objType:
				if o.typ, err = a.Uint32(); err != nil {
					return err
				}
			case objData:
				data = a.Data
			}
		}
		if o.typ == objectCounter {
			if err := o.counter.read(data); err != nil {
				return err
			}
		}
		objects = append(objects, o)
		return nil
	})
	return objects, err
}

func (c *Counter) read(b []byte) error {
	for a, err := range nfnl.Attrs(b) {
		if err != nil {
			return err
		}
		switch a.Type {
		case counterBytes:
			c.Bytes, err = a.Uint64()
		case counterPackets:
			c.Packets, err = a.Uint64()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// again tells whether reading or writing failed only because someone else
// changed the ruleset at that moment.
func again(err error) bool {
	return errors.Is(err, nfnl.ErrInterrupted) || errors.Is(err, nfnl.ErrChanged)
}
