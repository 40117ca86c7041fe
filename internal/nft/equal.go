package nft

import (
	"bytes"
	"encoding/binary"

	"github.com/hnvgate/hnvgate/internal/nfnl"
)

// equalRules tells whether the kernel's rules are the wanted ones.
func equalRules(want, got []compiledRule) bool {
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if !bytes.Equal(want[i].userdata, got[i].userdata) || !equalExprs(want[i].exprs, got[i].exprs) {
			return false
		}
	}
	return true
}

func equalExprs(want, got []byte) bool {
	w, ok1 := attrs(want)
	g, ok2 := attrs(got)
	if !ok1 || !ok2 || len(w) != len(g) {
		return false
	}
	for i := range w {
		if bytes.Equal(w[i].Data, g[i].Data) {
			continue
		}
		wn, wd, ok1 := splitExpr(w[i].Data)
		gn, gd, ok2 := splitExpr(g[i].Data)
		if !ok1 || !ok2 || wn != gn {
			return false
		}
		if wn == "nat" {
			wd, gd = plainNAT(wd), plainNAT(gd)
		}
		if !equalAttrs(wd, gd) {
			return false
		}
	}
	return true
}

func attrs(b []byte) (list []nfnl.Attr, ok bool) {
	for a, err := range nfnl.Attrs(b) {
		if err != nil {
			return nil, false
		}
		list = append(list, a)
	}
	return list, true
}

func splitExpr(b []byte) (name string, data []byte, ok bool) {
	list, ok := attrs(b)
	for _, a := range list {
		switch a.Type {
		case exprName:
			name = a.Text()
		case exprData:
			data = a.Data
		}
	}
	return name, data, ok && name != ""
}

// equalAttrs compares attributes in any order. An attribute that is left out
// says the same as one of zeros: which of the two the kernel answers with
// depends on its version.
func equalAttrs(want, got []byte) bool {
	w, ok1 := attrs(want)
	g, ok2 := attrs(got)
	if !ok1 || !ok2 {
		return false
	}
	for _, a := range w {
		i := indexAttr(g, a.Type)
		switch {
		case i < 0 && !zero(a.Data):
			return false
		case i < 0:
		case a.Nested && !equalAttrs(a.Data, g[i].Data):
			return false
		case !a.Nested && !equalData(a.Data, g[i].Data):
			return false
		}
	}
	for _, a := range g {
		if indexAttr(w, a.Type) < 0 && !zero(a.Data) {
			return false
		}
	}
	return true
}

func indexAttr(list []nfnl.Attr, typ uint16) int {
	for i, a := range list {
		if a.Type == typ {
			return i
		}
	}
	return -1
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// equalData compares payloads; of a string the closing zero may be missing.
func equalData(a, b []byte) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return bytes.Equal(a, b) || len(b) == len(a)+1 && b[len(a)] == 0 && bytes.Equal(a, b[:len(a)])
}

// plainNAT removes the flags of a nat expression that the kernel derives from
// the registers given: some versions tell of them and some do not.
func plainNAT(b []byte) []byte {
	const natFlags, derived = 7, 1<<0 | 1<<1 // NF_NAT_RANGE_MAP_IPS, _PROTO_SPECIFIED
	var out []byte
	list, _ := attrs(b)
	for _, a := range list {
		if n, err := a.Uint32(); a.Type == natFlags && err == nil {
			a.Data = binary.BigEndian.AppendUint32(nil, n&^derived)
		}
		out = nfnl.Append(out, a.Type, a.Data)
	}
	return out
}

func equalHooks(a, b *Hook) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Drop, y.Drop = false, false // the policy can be changed in place
	return x == y
}
