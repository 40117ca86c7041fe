//go:build linux

package nat

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/ct"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nft"
)

// feature is something the kernel must be able to do, with the option it comes
// from.
type feature struct {
	what, option string
	table        nft.Table
}

func features() []feature {
	a := netip.MustParseAddr("192.0.2.1")
	base := func(typ nft.ChainType, at nft.HookPoint, rules ...nft.Rule) nft.Table {
		return nft.Table{Family: nft.Inet, Name: "hnv-probe", Counters: []string{"seen"}, Chains: []nft.Chain{
			{Name: "probe", Hook: &nft.Hook{Type: typ, At: at}, Rules: rules}}}
	}
	ranges := base(nft.Filter, nft.Forward, nft.R(nft.In("ranges", nft.SAddr4, nft.ProtoField, nft.SPortField), nft.Accept()))
	ranges.Sets = []nft.Set{{Name: "ranges", Key: []nft.Type{nft.IPv4Addr, nft.InetProto, nft.InetService}, Interval: true,
		Elements: []nft.Element{nft.E(nft.Addr(a), nft.Proto(nft.ProtoTCP), nft.Ports(1024, 2047))}}}
	mapping := base(nft.NAT, nft.Prerouting, nft.R(nft.DNAT(nft.IPv4, "map", nft.DAddr4, nft.ProtoField, nft.DPortField)))
	mapping.Sets = []nft.Set{{Name: "map", Key: []nft.Type{nft.IPv4Addr, nft.InetProto, nft.InetService}, Value: []nft.Type{nft.IPv4Addr, nft.InetService}}}
	shared := base(nft.Filter, nft.Forward, nft.R(nft.CountSharesOver("shares", 2, 10), nft.Drop()))
	shared.Sets = []nft.Set{{Name: "shares", Key: []nft.Type{nft.Mark}, Dynamic: true, Size: 4}}
	raw := func(r nft.Rule) nft.Table {
		t := base(nft.Filter, nft.Prerouting, r)
		t.Chains[0].Hook.Priority = nft.PriorityRaw
		return t
	}
	return []feature{
		{"nftables for IPv4 and IPv6 together", "CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET", base(nft.Filter, nft.Forward)},
		{"nftables counters", "CONFIG_NF_TABLES", base(nft.Filter, nft.Forward, nft.R(nft.Count("seen")))},
		{"nftables with connection states", "CONFIG_NFT_CT", base(nft.Filter, nft.Forward, nft.R(nft.CTState(nft.StateInvalid), nft.Drop()))},
		{"nftables source NAT", "CONFIG_NFT_NAT", base(nft.NAT, nft.Postrouting, nft.R(nft.L4Proto(nft.ProtoTCP), nft.SNAT(a, 1024, 65535)))},
		{"nftables destination NAT by map", "CONFIG_NFT_NAT", mapping},
		{"nftables hashes", "CONFIG_NFT_HASH", base(nft.Filter, nft.Forward, nft.R(nft.HashBelow(nft.SAddr4, 2, 1, 1), nft.Accept()))},
		{"nftables connection limits (ct count)", "CONFIG_NFT_CONNLIMIT", base(nft.Filter, nft.Forward, nft.R(nft.CountOver(10), nft.Drop()))},
		{"nftables connection limits in sets", "CONFIG_NFT_CONNLIMIT since 4.20", shared},
		{"nftables rate limits", "CONFIG_NFT_LIMIT", base(nft.Filter, nft.Input, nft.R(nft.Limit(1, 5), nft.Accept()))},
		{"nftables TCP options (maxseg)", "CONFIG_NF_TABLES since 4.14", base(nft.Filter, nft.Forward, nft.R(nft.ClampMSS(1400)))},
		{"nftables routes (fib)", "CONFIG_NFT_FIB_INET", base(nft.Filter, nft.Prerouting, nft.R(nft.NoReversePath(true), nft.Drop()))},
		{"connection tracking in zones", "CONFIG_NF_CONNTRACK_ZONES", raw(nft.R(nft.SetZone(Zone)))},
		{"nftables that write addresses", "CONFIG_NF_TABLES since 4.12", raw(nft.R(nft.SetSource(a)))},
		{"nftables without connection tracking", "CONFIG_NFT_CT", raw(nft.R(nft.Notrack()))},
		{"nftables ranges in concatenations", "CONFIG_NF_TABLES since 5.6", ranges},
	}
}

// Probe tells whether this kernel and this process can do what the package
// needs; the error names everything that is missing. It tries in a network
// namespace that vanishes at once.
func Probe() error {
	err := netns.Scratch(tryAll)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("probe NAT: %w: network namespaces and nftables need root, or the capabilities CAP_NET_ADMIN and CAP_SYS_ADMIN", err)
	}
	if err != nil {
		return fmt.Errorf("probe NAT: %w", err)
	}
	return nil
}

// tryAll tries every feature in the calling thread's namespace.
func tryAll() error {
	rules, err := nft.Open("")
	if err != nil {
		return fmt.Errorf("the kernel lacks nftables (CONFIG_NF_TABLES): %w", err)
	}
	defer rules.Close()
	var missing []error
	for _, f := range features() {
		_, err := rules.Apply(f.table)
		if err == nil {
			err = rules.Delete(f.table.Family, f.table.Name)
		}
		if err != nil {
			missing = append(missing, fmt.Errorf("the kernel lacks %s (%s): %w", f.what, f.option, err))
		}
	}
	conns, err := ct.Open("")
	if err == nil {
		_, err = conns.Count()
		_ = conns.Close()
	}
	if err != nil {
		missing = append(missing, fmt.Errorf("the kernel lacks a list of its connections (CONFIG_NF_CT_NETLINK): %w", err))
	}
	return errors.Join(missing...)
}
