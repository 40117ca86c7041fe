//go:build linux

package s2s

import (
	"cmp"
	"slices"

	"github.com/hnvgate/hnvgate/internal/nft"
)

// tableName is that of the nftables table that marks the packets of tunnels.
const tableName = "hnv-s2s"

// marking is what the packets of one tunnel get: they are told by the port that
// they leave from.
type marking struct {
	port uint16
	dscp uint8
}

// markingTable sets the DSCP of what leaves from the ports.
func markingTable(ms []marking) nft.Table {
	slices.SortFunc(ms, func(a, b marking) int { return cmp.Compare(a.port, b.port) })
	c := nft.Chain{Name: "output", Hook: &nft.Hook{Type: nft.Filter, At: nft.Output, Priority: nft.PriorityMangle}}
	for _, m := range ms {
		for _, f := range []nft.Family{nft.IPv4, nft.IPv6} {
			c.Rules = append(c.Rules, nft.R(nft.SPort(nft.ProtoUDP, m.port), nft.SetDSCP(f, m.dscp)))
		}
	}
	return nft.Table{Family: nft.Inet, Name: tableName, Chains: []nft.Chain{c}}
}

// mark brings the marking in line; where no tunnel wants any there is no table.
func (e *Engine) mark(r *Result) error {
	var ms []marking
	for _, t := range e.spec.Tunnels {
		run := e.tunnels[t.Interface]
		if t.DSCP == 0 || run == nil {
			continue
		}
		text, err := run.wg.IpcGet()
		if err != nil {
			return err
		}
		d, err := parseDevice(text)
		if err != nil {
			return err
		}
		if d.port != 0 {
			ms = append(ms, marking{d.port, t.DSCP})
		}
	}
	if len(ms) == 0 {
		there, err := e.nft.Exists(nft.Inet, tableName)
		if err != nil || !there {
			return err
		}
		r.add("marking of packets removed")
		return e.nft.Delete(nft.Inet, tableName)
	}
	changes, err := e.nft.Apply(markingTable(ms))
	r.Changed = append(r.Changed, changes...)
	return err
}
