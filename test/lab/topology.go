package lab

import (
	"fmt"
	"net/netip"

	"github.com/hnvgate/hnvgate/hnv"
)

// Implementation says what makes a host an HNV host.
type Implementation string

// The implementations.
const (
	Gatewayd    Implementation = "gatewayd"    // the product itself, as a pure host
	OpenVSwitch Implementation = "openvswitch" // NVGRE by Open vSwitch's userspace datapath
	KernelVXLAN Implementation = "kernel-vxlan"
)

// Topology says what a lab consists of. It is data only; what it leaves out
// does not exist in the lab.
type Topology struct {
	Fabric  []PASubnet `json:"fabric"`
	Gateway *Gateway   `json:"gateway,omitempty"`
	Hosts   []Host     `json:"hosts"`
	Rogue   *Machine   `json:"rogue,omitempty"` // on the fabric, no HNV host: sends what it likes
	Tenants []Tenant   `json:"tenants"`
	VMs     []VM       `json:"vms"`
	Sites   []Site     `json:"sites,omitempty"`
}

// PASubnet is one subnet of the provider fabric and its router's address.
type PASubnet struct {
	Name   string       `json:"name"`
	Router netip.Prefix `json:"router"`
}

// Machine is anything with one address on the provider fabric.
type Machine struct {
	Name string       `json:"name"`
	PA   netip.Prefix `json:"pa"`
}

// Gateway is the gateway machine, the Internet behind it and the management
// network beside it.
type Gateway struct {
	Machine
	External   netip.Prefix `json:"external"`   // on ext0
	Internet   netip.Addr   `json:"internet"`   // the Internet's router, on the same link
	Service    netip.Addr   `json:"service"`    // where the Internet's services listen
	Management netip.Prefix `json:"management"` // on mgmt0
	Manager    netip.Addr   `json:"manager"`    // the machine on the management network
	Uplinks    []UplinkLink `json:"uplinks,omitempty"`
}

// Host is a tenant host.
type Host struct {
	Machine
	Implementation Implementation `json:"implementation"`
	// Team are the addresses of the further members of its NIC team, pa1 and so
	// on, in the subnet of the first; for hosts that run gatewayd.
	Team []netip.Prefix `json:"team,omitempty"`
}

// paLinks names the host's interfaces on the fabric, with their addresses.
func (h Host) paLinks() []paLink {
	out := []paLink{{"pa0", "p-" + h.Name, h.PA}}
	for i, pa := range h.Team {
		out = append(out, paLink{fmt.Sprintf("pa%d", i+1), fmt.Sprintf("p-%s-%d", h.Name, i+1), pa})
	}
	return out
}

// paLink is an interface on the fabric, the port of the fabric's switch that it is
// at, and its address.
type paLink struct {
	name, port string
	pa         netip.Prefix
}

// Tenant is one routing domain, the same one on all machines.
type Tenant struct {
	Name        string     `json:"name"`
	RDID        hnv.RDID   `json:"rdid"`
	Encap       hnv.Encap  `json:"encap"`
	Subnets     []Subnet   `json:"subnets"`
	GatewayVSID hnv.VSID   `json:"gatewayVSID"` // one of Subnets
	GatewayCA   netip.Addr `json:"gatewayCA"`
	External    netip.Addr `json:"external"`
}

// Subnet is a virtual subnet with an IPv4 prefix and, except for a gateway
// subnet, an IPv6 one; their lowest addresses are the distributed router's.
type Subnet struct {
	VSID    hnv.VSID     `json:"vsid"`
	Prefix  netip.Prefix `json:"prefix"`
	Prefix6 netip.Prefix `json:"prefix6,omitzero"`
}

// Router is the distributed router's address in the subnet.
func (s Subnet) Router() netip.Addr { return s.Prefix.Masked().Addr().Next() }

// Router6 is its IPv6 address; only where the subnet has Prefix6.
func (s Subnet) Router6() netip.Addr { return s.Prefix6.Masked().Addr().Next() }

// VM is a tenant's machine with one NIC.
type VM struct {
	Name   string     `json:"name"`
	Tenant string     `json:"tenant"`
	VSID   hnv.VSID   `json:"vsid"`
	CA     netip.Addr `json:"ca"`
	CA6    netip.Addr `json:"ca6"`
	MAC    hnv.MAC    `json:"mac"`
	Host   string     `json:"host"` // where it starts
}

// Port is the name of the host's end of the VM's NIC.
func (v VM) Port() string { return "v-" + v.Name }

// records gives the VM's records while it is behind the PA.
func (v VM) records(pa netip.Addr) []Record {
	return []Record{{v.VSID, v.CA, v.MAC, pa}, {v.VSID, v.CA6, v.MAC, pa}}
}

// Record is what a datacenter controller tells a host about a CA.
type Record struct {
	VSID hnv.VSID
	CA   netip.Addr
	MAC  hnv.MAC
	PA   netip.Addr
}

// MTU is what the tenant's VMs may send over a fabric of 1500.
func (t Tenant) MTU() int { return 1500 - t.Encap.Overhead(false) }

// Subnet finds a virtual subnet of the tenant.
func (t Tenant) Subnet(v hnv.VSID) (Subnet, bool) {
	for _, s := range t.Subnets {
		if s.VSID == v {
			return s, true
		}
	}
	return Subnet{}, false
}

// Tenant finds a tenant by name.
func (t *Topology) Tenant(name string) (Tenant, error) {
	for _, x := range t.Tenants {
		if x.Name == name {
			return x, nil
		}
	}
	return Tenant{}, fmt.Errorf("the lab has no tenant %q", name)
}

// VM finds a VM by name.
func (t *Topology) VM(name string) (VM, error) {
	for _, x := range t.VMs {
		if x.Name == name {
			return x, nil
		}
	}
	return VM{}, fmt.Errorf("the lab has no VM %q", name)
}

// Host finds a host by name.
func (t *Topology) Host(name string) (Host, error) {
	for _, x := range t.Hosts {
		if x.Name == name {
			return x, nil
		}
	}
	return Host{}, fmt.Errorf("the lab has no host %q", name)
}

// Records gives the lookup records of the tenant: its VMs where they start,
// and the compartment behind the gateway's PA.
func (t *Topology) Records(tenant Tenant) []Record {
	var out []Record
	for _, vm := range t.VMs {
		if vm.Tenant != tenant.Name {
			continue
		}
		h, err := t.Host(vm.Host)
		if err != nil {
			continue // refused by check
		}
		out = append(out, vm.records(h.PA.Addr())...)
	}
	if t.Gateway != nil {
		out = append(out, Record{
			tenant.GatewayVSID, tenant.GatewayCA,
			hnv.CompartmentMAC(tenant.GatewayVSID), t.Gateway.PA.Addr(),
		})
	}
	return out
}

// paSubnet finds the fabric's subnet that holds the address.
func (t *Topology) paSubnet(a netip.Addr) (PASubnet, error) {
	for _, s := range t.Fabric {
		if s.Router.Contains(a) {
			return s, nil
		}
	}
	return PASubnet{}, fmt.Errorf("no subnet of the fabric holds %s", a)
}

// machines gives every machine that has an address on the fabric.
func (t *Topology) machines() []Machine {
	var out []Machine
	if t.Gateway != nil {
		out = append(out, t.Gateway.Machine)
	}
	for _, h := range t.Hosts {
		out = append(out, h.Machine)
	}
	if t.Rogue != nil {
		out = append(out, *t.Rogue)
	}
	return out
}

// paInterfaces names the machine's interfaces on the fabric.
func (t *Topology) paInterfaces(machine string) []string {
	h, err := t.Host(machine)
	if err != nil {
		return []string{"pa0"} // the gateway
	}
	var out []string
	for _, l := range h.paLinks() {
		out = append(out, l.name)
	}
	return out
}

// product gives the machines that run gatewayd.
func (t *Topology) product() []string {
	var out []string
	if t.Gateway != nil {
		out = append(out, t.Gateway.Name)
	}
	for _, h := range t.Hosts {
		if h.Implementation == Gatewayd {
			out = append(out, h.Name)
		}
	}
	return out
}

// check finds what would otherwise fail halfway through Up.
func (t *Topology) check() error {
	for _, m := range t.machines() {
		if _, err := t.paSubnet(m.PA.Addr()); err != nil {
			return fmt.Errorf("machine %s: %w", m.Name, err)
		}
	}
	for _, h := range t.Hosts {
		for _, pa := range h.Team {
			if h.Implementation != Gatewayd || pa.Masked() != h.PA.Masked() {
				return fmt.Errorf("host %s: address %s: only hosts that run gatewayd have a team, in one subnet", h.Name, pa)
			}
		}
	}
	for _, vm := range t.VMs {
		tenant, err := t.Tenant(vm.Tenant)
		if err != nil {
			return fmt.Errorf("VM %s: %w", vm.Name, err)
		}
		h, err := t.Host(vm.Host)
		if err != nil {
			return fmt.Errorf("VM %s: %w", vm.Name, err)
		}
		if err := h.carries(tenant); err != nil {
			return fmt.Errorf("VM %s: %w", vm.Name, err)
		}
		s, ok := tenant.Subnet(vm.VSID)
		if !ok || !s.Prefix.Contains(vm.CA) || !s.Prefix6.Contains(vm.CA6) {
			return fmt.Errorf("VM %s: VSID %s of tenant %s does not hold %s and %s", vm.Name, vm.VSID, tenant.Name, vm.CA, vm.CA6)
		}
	}
	for _, s := range t.Sites {
		if err := s.check(t); err != nil {
			return err
		}
	}
	return nil
}

// carries tells whether the host can have VMs of the tenant.
func (h Host) carries(t Tenant) error {
	ok := h.Implementation == Gatewayd ||
		h.Implementation == OpenVSwitch && t.Encap == hnv.NVGRE ||
		h.Implementation == KernelVXLAN && t.Encap == hnv.VXLAN
	if !ok {
		return fmt.Errorf("host %s (%s) does not speak tenant %s's %s", h.Name, h.Implementation, t.Name, t.Encap)
	}
	return nil
}
