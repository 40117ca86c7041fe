//go:build linux

package s2s

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/hnvgate/hnvgate/internal/nft"
)

// tableName is that of the nftables table for the packets of tunnels.
const tableName = "hnv-s2s"

// shaping is what nftables does for one tunnel. Its packets outside are told by the
// port that they leave from, those inside by the link.
type shaping struct {
	port uint16
	dscp uint8
	// The rest is for the kernel's WireGuard, which asks nobody else about packets.
	kernel          bool
	link            string
	mtu             int
	inKbps, outKbps uint64
}

// shapingTable sets the DSCP of what leaves from the ports. For tunnels of the kernel's
// it also does what policy does for others: it clamps the MSS and drops what is over
// the limits. And it has routers say what is too big for the path: the kernel's
// WireGuard would let them cut packets to pieces.
func shapingTable(all []shaping) nft.Table {
	slices.SortFunc(all, func(a, b shaping) int { return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.link, b.link)) })
	t := nft.Table{Family: nft.Inet, Name: tableName}
	out := nft.Chain{Name: "output", Hook: &nft.Hook{Type: nft.Filter, At: nft.Output, Priority: nft.PriorityMangle}}
	whole := nft.Set{Name: "whole", Key: []nft.Type{nft.InetService}}
	for _, s := range all {
		for _, f := range []nft.Family{nft.IPv4, nft.IPv6} {
			if s.dscp != 0 {
				out.Rules = append(out.Rules, nft.R(nft.SPort(nft.ProtoUDP, s.port), nft.SetDSCP(f, s.dscp)))
			}
		}
		if s.kernel {
			whole.Elements = append(whole.Elements, nft.E(nft.Port(s.port)))
		}
	}
	if len(whole.Elements) > 0 {
		t.Sets = append(t.Sets, whole)
		out.Rules = append(out.Rules, nft.R(nft.L4Proto(nft.ProtoUDP), nft.In(whole.Name, nft.SPortField), nft.SetDF()))
	}
	t.Chains = append(t.Chains, out)
	all = slices.DeleteFunc(all, func(s shaping) bool { return !s.kernel })
	if len(all) == 0 {
		return t
	}
	// One set for each MTU, so that a packet is looked up a few times however many
	// tunnels there are.
	byMTU := map[int]*nft.Set{}
	limited := nft.Set{Name: "limited", Key: []nft.Type{nft.IfName}}
	for _, s := range all {
		if byMTU[s.mtu] == nil {
			byMTU[s.mtu] = &nft.Set{Name: fmt.Sprintf("mtu%d", s.mtu), Key: []nft.Type{nft.IfName}}
		}
		byMTU[s.mtu].Elements = append(byMTU[s.mtu].Elements, nft.E(nft.Name(s.link)))
		if s.inKbps+s.outKbps > 0 {
			limited.Elements = append(limited.Elements, nft.E(nft.Name(s.link)))
			t.Counters = append(t.Counters, inCounter(s.link), outCounter(s.link))
		}
	}
	mtus := slices.Sorted(maps.Keys(byMTU))
	for _, m := range mtus {
		t.Sets = append(t.Sets, *byMTU[m])
	}
	if len(limited.Elements) > 0 {
		t.Sets = append(t.Sets, limited)
	}
	for _, way := range []struct {
		at    nft.HookPoint
		field nft.Field
		match func(string) nft.Stmt
		count func(string) string
		kbps  func(shaping) uint64
	}{
		{nft.Prerouting, nft.IIfField, nft.IIfName, inCounter, func(s shaping) uint64 { return s.inKbps }},
		{nft.Postrouting, nft.OIfField, nft.OIfName, outCounter, func(s shaping) uint64 { return s.outKbps }},
	} {
		c := nft.Chain{Name: string(way.at), Hook: &nft.Hook{Type: nft.Filter, At: way.at, Priority: nft.PriorityMangle}}
		for _, m := range mtus {
			syn := func(f nft.Family, header int) nft.Rule {
				return nft.R(nft.NFProto(f), nft.TCPFlags(nft.SYN, nft.SYN), nft.In(byMTU[m].Name, way.field), nft.ClampMSS(uint16(m-header)))
			}
			c.Rules = append(c.Rules, syn(nft.IPv4, 40), syn(nft.IPv6, 60))
		}
		if len(limited.Elements) > 0 {
			c.Rules = append(c.Rules, nft.R(nft.NotIn(limited.Name, way.field), nft.Accept()))
		}
		for _, s := range all {
			if rate := way.kbps(s) * 1000 / 8; rate > 0 {
				more := uint32(max(minBurst-int64(rate), 1))
				c.Rules = append(c.Rules, nft.R(way.match(s.link), nft.BytesOver(rate, more), nft.Count(way.count(s.link)), nft.Drop()))
			}
		}
		t.Chains = append(t.Chains, c)
	}
	return t
}

func inCounter(link string) string  { return "in-" + link }
func outCounter(link string) string { return "out-" + link }

// shape brings the table in line; where no tunnel wants any there is none.
func (e *Engine) shape(r *Result) error {
	var all []shaping
	for _, t := range e.spec.Tunnels {
		run := e.tunnels[t.Interface]
		if run == nil || t.DSCP == 0 && run.wg.kind() != Kernel {
			continue
		}
		d, err := run.wg.show()
		if err != nil {
			return err
		}
		if d.port != 0 {
			all = append(all, shaping{port: d.port, dscp: t.DSCP, kernel: run.wg.kind() == Kernel, link: t.Interface, mtu: run.mtu,
				inKbps: t.InboundKbps, outKbps: t.OutboundKbps})
		}
	}
	if len(all) == 0 {
		there, err := e.nft.Exists(nft.Inet, tableName)
		if err != nil || !there {
			return err
		}
		r.add("marking of packets removed")
		return e.nft.Delete(nft.Inet, tableName)
	}
	changes, err := e.nft.Apply(shapingTable(all))
	r.Changed = append(r.Changed, changes...)
	return err
}

// shaped tells, by counter, what nftables dropped; nothing where no tunnel is limited
// by it.
func (e *Engine) shaped() map[string]nft.Counter {
	for _, t := range e.spec.Tunnels {
		run := e.tunnels[t.Interface]
		if run != nil && run.wg.kind() == Kernel && t.InboundKbps+t.OutboundKbps > 0 {
			if c, err := e.nft.Counters(nft.Inet, tableName); err == nil {
				return c
			}
			break
		}
	}
	return nil
}
