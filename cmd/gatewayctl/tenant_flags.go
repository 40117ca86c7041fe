package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// tenantFlags are what tenant add and tenant set take.
type tenantFlags struct {
	rdid, encap, uplink string
	subnets, gatewayCAs []string
	gatewaySubnet       string
	nat                 []string
	connectionLimit     uint32
	natOffload          string
	remove              []uint
	noNAT, noGateway    bool
	adding              bool
	inKbps, outKbps     uint64
	dscp                string
	stormPPS            uint32
}

func (f *tenantFlags) common(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.encap, "encap", "", "encapsulation: nvgre or vxlan")
	fl.StringArrayVar(&f.subnets, "subnet", nil, "virtual subnet as VSID=PREFIX[@ROUTER][,PREFIX...] (repeatable)")
	fl.StringVar(&f.gatewaySubnet, "gateway-subnet", "", "virtual subnet of the compartment as VSID=PREFIX, or the VSID of a --subnet; makes this machine the tenant's gateway")
	fl.StringSliceVar(&f.gatewayCAs, "gateway-ca", nil, "the compartment's customer address there (repeatable, one of each family; default: the lowest free one)")
	fl.StringVar(&f.uplink, "uplink", "", "uplink that the compartment leads to")
	fl.StringSliceVar(&f.nat, "nat", nil, "external address as ADDR or ADDR:LO-HI (repeatable)")
	fl.Uint32Var(&f.connectionLimit, "connection-limit", 0, "how many connections are tracked at once (default 65536)")
	fl.StringVar(&f.natOffload, "nat-offload", "auto", "translate established connections past the compartment: on, off, or auto for what the gateway does")
	fl.Uint64Var(&f.inKbps, "in-kbps", 0, "rate limit towards the tenant's ports of this machine, in kbit/s (0: none)")
	fl.Uint64Var(&f.outKbps, "out-kbps", 0, "rate limit of what comes from these ports, in kbit/s (0: none)")
	fl.StringVar(&f.dscp, "dscp", "", "DSCP of the outer header: copy for the inner packet's, or 0 to 63 (default 0)")
	fl.Uint32Var(&f.stormPPS, "storm-pps", 0, "broadcast and multicast frames per second that these ports may send (0: 1000)")
	_ = cmd.RegisterFlagCompletionFunc("nat-offload", cobra.FixedCompletions([]string{"auto", "on", "off"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("encap", cobra.FixedCompletions([]string{"nvgre", "vxlan"}, cobra.ShellCompDirectiveNoFileComp))
}

// change brings what the flags say into t.
func (f *tenantFlags) change(cmd *cobra.Command, t *v1.Tenant) error {
	given := cmd.Flags().Changed
	if given("encap") {
		t.Encap = f.encap
	}
	for _, v := range f.remove {
		i := slices.IndexFunc(t.Subnets, func(s v1.Subnet) bool { return uint(s.VSID) == v })
		if i < 0 {
			return usagef("tenant %s has no subnet with VSID %d", t.Name, v)
		}
		t.Subnets = slices.Delete(t.Subnets, i, i+1)
	}
	for _, text := range f.subnets {
		s, err := parseSubnet("--subnet", text)
		if err != nil {
			return err
		}
		f.put(t, s)
	}
	f.changeQoS(given, t)
	if f.noGateway {
		t.Gateway = nil
		return nil
	}
	if given("gateway-subnet") {
		if err := f.setGatewaySubnet(t); err != nil {
			return err
		}
	}
	return f.changeGateway(given, t)
}

func (f *tenantFlags) changeQoS(given func(string) bool, t *v1.Tenant) {
	var q v1.QoS
	if t.QoS != nil {
		q = *t.QoS
	}
	if given("in-kbps") {
		q.InKbps = f.inKbps
	}
	if given("out-kbps") {
		q.OutKbps = f.outKbps
	}
	if given("dscp") {
		q.DSCP = f.dscp
	}
	t.QoS = nil
	if q != (v1.QoS{}) {
		t.QoS = &q
	}
	if given("storm-pps") {
		t.StormPPS = f.stormPPS
	}
}

func (f *tenantFlags) changeGateway(given func(string) bool, t *v1.Tenant) error {
	g := t.Gateway
	for _, name := range []string{"gateway-ca", "uplink", "nat", "connection-limit", "nat-offload"} {
		if given(name) && g == nil {
			return usagef("--%s needs --gateway-subnet: only a gateway has one", name)
		}
	}
	if g == nil {
		return nil
	}
	if given("gateway-ca") {
		g.CAs = f.gatewayCAs
	}
	if given("uplink") {
		g.Uplink = f.uplink
	}
	if f.noNAT {
		g.NAT = nil
	}
	if given("nat") {
		if g.NAT == nil {
			g.NAT = &v1.NAT{}
		}
		g.NAT.Pool = f.nat
	}
	if given("connection-limit") {
		if g.NAT == nil {
			return usagef("--connection-limit needs --nat: without NAT no connection is tracked")
		}
		g.NAT.ConnectionLimit = f.connectionLimit
	}
	if given("nat-offload") {
		if g.NAT == nil {
			return usagef("--nat-offload needs --nat: without NAT nothing is translated")
		}
		g.NAT.Offload = f.natOffload
		if f.natOffload == "auto" {
			g.NAT.Offload = ""
		}
	}
	return nil
}

func (f *tenantFlags) setGatewaySubnet(t *v1.Tenant) error {
	var vsid uint32
	if strings.Contains(f.gatewaySubnet, "=") {
		s, err := parseSubnet("--gateway-subnet", f.gatewaySubnet)
		if err != nil {
			return err
		}
		f.put(t, s)
		vsid = s.VSID
	} else {
		var err error
		if vsid, err = parseVSID("--gateway-subnet", f.gatewaySubnet); err != nil {
			return err
		}
	}
	if t.Gateway == nil {
		t.Gateway = &v1.Gateway{}
	}
	if t.Gateway.VSID != vsid {
		t.Gateway.VSID, t.Gateway.CAs = vsid, nil
	}
	return nil
}

// put adds a subnet. In tenant set it may give an existing one new prefixes;
// in tenant add the gateway refuses a VSID that is given twice.
func (f *tenantFlags) put(t *v1.Tenant, s v1.Subnet) {
	i := slices.IndexFunc(t.Subnets, func(o v1.Subnet) bool { return o.VSID == s.VSID })
	if i >= 0 && !f.adding {
		t.Subnets[i].Prefixes = s.Prefixes // what else it has stays
		return
	}
	t.Subnets = append(t.Subnets, s)
}

func parseSubnet(flag, text string) (v1.Subnet, error) {
	v, prefixes, ok := strings.Cut(text, "=")
	if !ok || prefixes == "" {
		return v1.Subnet{}, usagef("%s %q is malformed: write VSID=PREFIX, as 5001=10.1.1.0/24", flag, text)
	}
	vsid, err := parseVSID(flag, v)
	if err != nil {
		return v1.Subnet{}, err
	}
	return v1.Subnet{VSID: vsid, Prefixes: strings.Split(prefixes, ",")}, nil
}

func parseVSID(flag, text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, usagef("%s: VSID %q is not a whole number", flag, text)
	}
	return uint32(n), nil
}
