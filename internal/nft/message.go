package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/nfnl"
)

// elementBytes bounds the elements in one message: the list is an attribute.
const elementBytes = 32 << 10

// add appends a message about the table; data follows the table's name.
func (p *planner) add(typ, flags uint16, what string, data []byte) {
	p.msgs = append(p.msgs, nfnl.Message{
		Type: typ, Flags: flags, Family: uint8(p.want.family), What: what,
		Data: append(nfnl.AppendString(nil, tableName, p.want.name), data...),
	})
}

func (p *planner) table() {
	p.add(msgNewTable, unix.NLM_F_CREATE, "add table "+p.want.name, nfnl.AppendUint32(nil, tableFlags, 0))
}

func (p *planner) counter(name string, start Counter) {
	data := nfnl.AppendUint64(nil, counterBytes, start.Bytes)
	data = nfnl.AppendUint64(data, counterPackets, start.Packets)
	b := nfnl.AppendString(nil, objName, name)
	b = nfnl.AppendUint32(b, objType, objectCounter)
	b = nfnl.AppendNested(b, objData, data)
	p.add(msgNewObj, unix.NLM_F_CREATE, "add counter "+name, b)
}

func (p *planner) set(s compiledSet) {
	b := nfnl.AppendString(nil, setName, s.name)
	b = nfnl.AppendUint32(b, setFlags, s.def.flags)
	b = nfnl.AppendUint32(b, setKeyType, s.def.keyType)
	b = nfnl.AppendUint32(b, setKeyLen, s.def.keyLen)
	if s.def.flags&setMap != 0 {
		b = nfnl.AppendUint32(b, setDataType, s.def.dataType)
		b = nfnl.AppendUint32(b, setDataLen, s.def.dataLen)
	}
	if s.def.timeout != 0 {
		b = nfnl.AppendUint64(b, setTimeout, s.def.timeout)
	}
	var desc []byte
	if s.def.size > 0 {
		desc = nfnl.AppendUint32(desc, descSize, s.def.size)
	}
	if s.def.fields != "" {
		var list []byte
		for _, n := range s.def.fields {
			list = nfnl.AppendNested(list, listElem, nfnl.AppendUint32(nil, fieldLength, uint32(n)))
		}
		desc = nfnl.AppendNested(desc, descConcat, list)
	}
	if len(desc) > 0 {
		b = nfnl.AppendNested(b, setDesc, desc)
	}
	note := setOrder(s.def.keyType, s.def.dataType)
	if s.def.keyType == VSID.magic && s.def.keyLen == uint32(VSID.size) {
		note = append(note, setTypeof()...)
	}
	b = nfnl.AppendUint32(b, setID, 0)
	b = nfnl.Append(b, setUserdata, note)
	p.add(msgNewSet, unix.NLM_F_CREATE, "add set "+s.name, b)
}

// setOrder is the note by which nft list knows that keys and values are in
// network order; names of interfaces and marks are in host order.
func setOrder(keyType, dataType uint32) []byte {
	const keyOrder, dataOrder, host, network = 0, 1, 1, 2
	key, data := uint32(network), uint32(network)
	if keyType == IfName.magic || keyType == Mark.magic {
		key = host
	}
	if dataType == IfIndex.magic {
		data = host
	}
	b := binary.NativeEndian.AppendUint32([]byte{keyOrder, 4}, key)
	return binary.NativeEndian.AppendUint32(append(b, dataOrder, 4), data)
}

// setTypeof is the note by which nft list knows that a key of the plain number
// type is what stands in a packet 32 bits behind the transport header's start
// and is 24 bits long (libnftnl's udata.h, payload_expr_build_udata in nft's
// payload.c).
func setTypeof() []byte {
	const (
		keyTypeof                              = 3
		exprType, exprBody                     = 0, 1
		payload                                = 7
		proto, field, base, offset, bits       = 0, 1, 2, 3, 4
		unknown, transportHeader, at, vsidBits = 0, 3, 32, 24
	)
	number := func(b []byte, typ byte, n uint32) []byte {
		return binary.NativeEndian.AppendUint32(append(b, typ, 4), n)
	}
	nested := func(b []byte, typ byte, body []byte) []byte { return append(append(b, typ, byte(len(body))), body...) }
	var where []byte
	for _, f := range []struct {
		typ byte
		n   uint32
	}{{proto, unknown}, {field, unknown}, {base, transportHeader}, {offset, at}, {bits, vsidBits}} {
		where = number(where, f.typ, f.n)
	}
	return nested(nil, keyTypeof, nested(number(nil, exprType, payload), exprBody, where))
}

// elements adds or deletes elements, in as many messages as it takes.
func (p *planner) elements(typ uint16, s compiledSet, elems []elem) {
	flags, what := uint16(unix.NLM_F_CREATE), "add elements to set "+s.name
	if typ == msgDelSetElem {
		flags, what = 0, "delete elements of set "+s.name
	}
	var list []byte
	send := func() {
		if len(list) > 0 {
			b := nfnl.AppendString(nil, elemListSet, s.name)
			p.add(typ, flags, what, nfnl.AppendNested(b, elemListElems, list))
			list = nil
		}
	}
	for _, e := range elems {
		list = nfnl.AppendNested(list, listElem, e.bytes(typ == msgDelSetElem))
		if len(list) > elementBytes {
			send()
		}
	}
	send()
}

func (e elem) bytes(keyOnly bool) []byte {
	value := func(s string) []byte { return nfnl.Append(nil, dataValue, []byte(s)) }
	var b []byte
	if e.end {
		b = nfnl.AppendUint32(b, elemFlags, elemIntervalEnd)
	}
	b = nfnl.AppendNested(b, elemKey, value(e.key))
	if e.keyEnd != "" {
		b = nfnl.AppendNested(b, elemKeyEnd, value(e.keyEnd))
	}
	if e.data != "" && !keyOnly {
		b = nfnl.AppendNested(b, elemData, value(e.data))
	}
	return b
}

func (p *planner) chain(c compiledChain) {
	b := nfnl.AppendString(nil, chainName, c.name)
	if h := c.hook; h != nil {
		hook := nfnl.AppendUint32(nil, hookNum, h.At.number())
		hook = nfnl.AppendUint32(hook, hookPriority, uint32(h.Priority))
		if h.Device != "" {
			hook = nfnl.AppendString(hook, hookDev, h.Device)
		}
		b = nfnl.AppendNested(b, chainHook, hook)
		policy := uint32(1)
		if h.Drop {
			policy = 0
		}
		b = nfnl.AppendUint32(b, chainPolicy, policy)
		b = nfnl.AppendString(b, chainType, string(h.Type))
	}
	p.add(msgNewChain, unix.NLM_F_CREATE, "add chain "+c.name, b)
}

func (p *planner) rules(c compiledChain) {
	for _, r := range c.rules {
		b := nfnl.AppendString(nil, ruleChain, c.name)
		b = nfnl.AppendNested(b, ruleExprs, r.exprs)
		if r.userdata != nil {
			b = nfnl.Append(b, ruleUserdata, r.userdata)
		}
		p.add(msgNewRule, unix.NLM_F_CREATE|unix.NLM_F_APPEND, "add rule to chain "+c.name, b)
	}
}
