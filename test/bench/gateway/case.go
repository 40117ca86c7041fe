//go:build linux

package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
)

// Case is one kind of gateway.
type Case struct {
	Name string
	What string // in a line
	// Encap is how the host reaches the gateway; "": without an overlay.
	Encap hnv.Encap
	// These tell that the case is also measured with many tenants, or many lookup
	// records.
	Tenants, Records bool

	// ways are what gatewayd must say of its features, and is told where it can be
	// told: how packets go.
	ways   []way
	direct bool // no gateway at all
	setUp  func(*rig, context.Context) error
}

// The cases that others are compared with.
const (
	Plain       = "plain"
	KernelVXLAN = "kernel-vxlan"
	limit       = "limit"
)

// Against are the cases that the ratios in a report compare with.
func Against() []string { return []string{Plain, KernelVXLAN} }

// Cases gives all cases in the order of reports.
func Cases() []Case {
	return []Case{
		{Name: limit, What: "no gateway: host and Internet joined by one veth", direct: true, setUp: (*rig).noGateway},
		{Name: Plain, What: "routed, nftables masquerade, no overlay", setUp: (*rig).plainGateway},
		{Name: KernelVXLAN, What: "kernel vxlan device and namespace per tenant, nftables SNAT", Encap: hnv.VXLAN, Tenants: true, setUp: (*rig).vxlanGateway},
		{Name: "ovs-nvgre", What: "Open vSwitch, userspace datapath, namespace per tenant, nftables SNAT", Encap: hnv.NVGRE, setUp: (*rig).ovsGateway},
		gatewayd("ours-go-nvgre", "gatewayd, Go dataplane, NVGRE", hnv.NVGRE, onGo),
		gatewayd("ours-go-vxlan", "gatewayd, Go dataplane, VXLAN", hnv.VXLAN, onGo),
		gatewayd("ours-ebpf-nvgre", "gatewayd, eBPF fast path, NVGRE", hnv.NVGRE, onEBPF, withoutOffload),
		gatewayd("ours-ebpf-vxlan", "gatewayd, eBPF fast path, VXLAN", hnv.VXLAN, onEBPF, withoutOffload),
		gatewayd("ours-ebpf-nat-nvgre", "gatewayd, eBPF fast path with NAT offload, NVGRE", hnv.NVGRE, onEBPF, withOffload),
		gatewayd("ours-ebpf-nat-vxlan", "gatewayd, eBPF fast path with NAT offload, VXLAN", hnv.VXLAN, onEBPF, withOffload),
	}
}

func gatewayd(name, what string, e hnv.Encap, ways ...way) Case {
	sizes := e == hnv.NVGRE // the tables are the same for both
	return Case{Name: name, What: what, Encap: e, Tenants: sizes, Records: sizes, ways: ways, setUp: (*rig).ourGateway}
}

// way is one of the ways in which gatewayd can do something, as its status names it.
type way struct {
	feature string
	path    string
	setting string // the line of gatewayd.yaml that chooses it, where there is a choice
	// only tells that a gatewayd that does not know the feature does not have it.
	only bool
}

var (
	onGo           = way{"dataplane", "go", "path: go", true}
	onEBPF         = way{"dataplane", "ebpf", "path: ebpf", true}
	withOffload    = way{"nat-offload", "ebpf", "natOffload: true", true}
	withoutOffload = way{"nat-offload", "kernel", "natOffload: false", false}
)

// Choose gives the cases whose names are listed, in the order of Cases; all if
// none are.
func Choose(names []string) ([]Case, error) {
	all := Cases()
	if len(names) == 0 {
		return all, nil
	}
	for _, n := range names {
		if !slices.ContainsFunc(all, func(c Case) bool { return c.Name == n }) {
			return nil, fmt.Errorf("no case %q: there are %s", n, strings.Join(caseNames(all), ", "))
		}
	}
	return slices.DeleteFunc(all, func(c Case) bool { return !slices.Contains(names, c.Name) }), nil
}

func caseNames(cases []Case) []string {
	var out []string
	for _, c := range cases {
		out = append(out, c.Name)
	}
	return out
}

// mtu is what the VM may send over a fabric of 1500.
func (c Case) mtu() int {
	if c.Encap == "" {
		return 1500
	}
	return 1500 - c.Encap.Overhead(false)
}

// source is the VM's address as the outside sees it.
func (c Case) source(s site) netip.Addr {
	switch {
	case c.direct:
		return s.ca
	case c.Encap == "":
		return s.external
	}
	return s.tenant(0).external
}

// Size is how much is configured besides what carries the traffic.
type Size struct {
	Tenants int // at least 1
	Records int // lookup records of the first tenant's VMs, at least 1
}

// suffix makes a case of the size a case of its own, by name.
func (z Size) suffix() string {
	switch {
	case z.Tenants > 1:
		return fmt.Sprintf("/tenants=%d", z.Tenants)
	case z.Records > 1:
		return fmt.Sprintf("/records=%d", z.Records)
	}
	return ""
}
