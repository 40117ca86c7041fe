package control

import (
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane/port"
	"github.com/hnvgate/hnvgate/hnv"
)

// FabricSide is what the dataplane is to serve of the fabric.
type FabricSide struct {
	Tunnel  []compartments.PAState // provider addresses
	Rewrite []compartments.PAState // those that stand for one CA each
	Groups  []netip.Addr           // multicast groups that carry tunnel packets
	VSIDs   []hnv.VSID             // those whose tunnel packets the machine's own stack does not get
}

// addresses gives what is read and joined, each where it is.
func (f FabricSide) addresses() port.Addresses {
	at := func(list []compartments.PAState) (out []port.PA) {
		for _, s := range list {
			out = append(out, port.PA{Addr: s.Addr, Interface: s.Link})
		}
		return out
	}
	out := port.Addresses{Tunnel: at(f.Tunnel), Rewrite: at(f.Rewrite)}
	for _, g := range f.Groups {
		i := slices.IndexFunc(f.Tunnel, func(s compartments.PAState) bool { return s.Addr.Is4() == g.Is4() && !s.Down })
		if i >= 0 {
			out.Groups = append(out.Groups, port.Group{Addr: g, Interface: f.Tunnel[i].Link})
		}
	}
	return out
}

// links gives those to listen on: where the addresses are, and where they will be
// again.
func (f FabricSide) links() []string {
	var out []string
	add := func(l string) {
		if l != "" && !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	for _, s := range slices.Concat(f.Tunnel, f.Rewrite) {
		if s.Fault != compartments.FaultMissing {
			add(s.Home)
		}
		if s.Link != s.Home {
			add(s.Link)
		}
	}
	return out
}

// providerSpec computes the provider side.
func providerSpec(f *hnv.Fabric) compartments.ProviderSpec {
	s := compartments.ProviderSpec{Addresses: f.ProviderAddresses(), Routes: f.ProviderRoutes()}
	here := map[hnv.VSID]bool{} // where this machine has a port
	ports := f.Ports()
	for _, p := range ports {
		here[p.VSID] = true
	}
	groups := map[netip.Addr]bool{}
	for _, t := range f.Tenants() {
		if t.Gateway != nil {
			here[t.Gateway.VSID] = true
		}
		for _, sub := range t.Subnets {
			s.VSIDs = append(s.VSIDs, sub.VSID)
			if g := sub.MulticastGroup; g.IsValid() && here[sub.VSID] {
				groups[g] = true
			}
		}
	}
	for g := range groups {
		s.Groups = append(s.Groups, g)
	}
	slices.SortFunc(s.Groups, netip.Addr.Compare)
	s.Rewrite = rewriteAddresses(f, ports)
	return s
}

// rewriteAddresses are those that stand for a CA of a VM on this machine.
func rewriteAddresses(f *hnv.Fabric, ports []hnv.Port) []compartments.RewriteAddress {
	type station struct {
		vsid hnv.VSID
		mac  hnv.MAC
	}
	at := map[station]string{}
	tenants := map[hnv.Name]bool{}
	for _, p := range ports {
		if t, ok := f.TenantOfVSID(p.VSID); ok {
			at[station{p.VSID, p.MAC}] = p.Interface
			tenants[t.Name] = true
		}
	}
	var out []compartments.RewriteAddress
	for n := range tenants {
		for _, r := range f.TenantRecords(n) {
			if r.Rule != hnv.RuleRewrite {
				continue
			}
			if port, ok := at[station{r.VSID, r.MAC}]; ok {
				out = append(out, compartments.RewriteAddress{Addr: r.PA, Port: port})
			}
		}
	}
	slices.SortFunc(out, func(a, b compartments.RewriteAddress) int { return a.Addr.Compare(b.Addr) })
	return out
}

// equalSpecs tells whether the same is wanted of the provider side.
func equalSpecs(a, b compartments.ProviderSpec) bool {
	return slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Routes, b.Routes) && slices.Equal(a.VSIDs, b.VSIDs) &&
		slices.Equal(a.Rewrite, b.Rewrite) && slices.Equal(a.Groups, b.Groups)
}
