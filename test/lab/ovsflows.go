package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
)

// hostState is what a tenant host knows: whose VMs it may have, the lookup
// records, and which VMs are attached to it.
type hostState struct {
	pa      netip.Addr
	tenants []Tenant
	records map[recordKey]Record
	local   map[string]VM // by port
	asks    bool          // other hosts, what no record answers
}

type recordKey struct {
	vsid hnv.VSID
	ca   netip.Addr
}

func newHostState(h Host, topo *Topology) *hostState {
	s := &hostState{pa: h.PA.Addr(), records: map[recordKey]Record{}, local: map[string]VM{}}
	for _, t := range topo.Tenants {
		if h.carries(t) != nil {
			continue
		}
		s.tenants = append(s.tenants, t)
		for _, r := range topo.Records(t) {
			s.records[recordKey{r.VSID, r.CA}] = r
		}
	}
	return s
}

// Open vSwitch carries IPv4 only: it would need a controller for neighbor
// discovery.

// The tables of br-int. Register 0 holds the VSID the frame is in, register 1
// the number of its tenant.
const (
	flowFromVM     = 10 // ARP, then routing or bridging
	flowRoute      = 20 // the distributed router
	flowDeliver    = 30 // by VSID and MAC address, to a VM here or through the tunnel
	flowFromTunnel = 40 // to a VM here, never back into the tunnel
)

// flows computes all of br-int's flows. Ports appear by name.
func (s *hostState) flows() []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	router := hnv.RouterMAC

	for number, t := range s.tenants {
		for _, port := range sortedKeys(s.local) {
			vm := s.local[port]
			if vm.Tenant != t.Name {
				continue
			}
			add("table=0,priority=100,in_port=%s,dl_src=%s actions=load:%s->NXM_NX_REG0[],load:%d->NXM_NX_REG1[],resubmit(,%d)",
				port, vm.MAC, vm.VSID, number, flowFromVM)
			// An address probe for one's own CA gets no answer (RFC 5227).
			add("table=%d,priority=110,in_port=%s,arp,arp_tpa=%s actions=drop", flowFromVM, port, vm.CA)
			for _, table := range []int{flowDeliver, flowFromTunnel} {
				add("table=%d,priority=110,reg0=%s,dl_dst=%s actions=output:%s", table, vm.VSID, vm.MAC, port)
			}
		}
		for _, n := range t.Subnets {
			// The low byte of the key is the FlowID: it says nothing about the VSID.
			add("table=0,priority=100,in_port=nvgre0,tun_id=%#x/0xffffff00 actions=load:%s->NXM_NX_REG0[],load:%d->NXM_NX_REG1[],resubmit(,%d)",
				n.VSID.Uint32()<<8, n.VSID, number, flowFromTunnel)
			add("table=%d,priority=100,arp,reg0=%s,arp_op=1,arp_tpa=%s actions=%s",
				flowFromVM, n.VSID, n.Router(), arpAnswer(n.Router(), router))
			add("table=%d,priority=2000,icmp,reg1=%d,icmp_type=8,nw_dst=%s actions="+
				"move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],mod_dl_src:%s,move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[],mod_nw_src:%s,mod_nw_ttl:64,load:0->NXM_OF_ICMP_TYPE[],in_port",
				flowRoute, number, n.Router(), router, n.Router())
			add("table=%d,priority=%d,ip,reg1=%d,nw_dst=%s actions=drop", flowRoute, 1000+n.Prefix.Bits(), number, n.Prefix)
		}
		s.recordFlows(number, t, add)
		s.floodFlows(t, add)
	}
	add("table=%d,priority=50,arp actions=drop", flowFromVM)
	add("table=%d,priority=50,ip,dl_dst=%s actions=resubmit(,%d)", flowFromVM, router, flowRoute)
	add("table=%d,priority=40,ip actions=resubmit(,%d)", flowFromVM, flowDeliver)
	add("table=%d,priority=1900,ip,nw_ttl=1 actions=drop", flowRoute)
	add("table=%d,priority=1900,ip,nw_ttl=0 actions=drop", flowRoute)
	return out
}

func (s *hostState) recordFlows(number int, t Tenant, add func(string, ...any)) {
	keys := make([]recordKey, 0, len(s.records))
	for k := range s.records {
		if _, ok := t.Subnet(k.vsid); ok && k.ca.Is4() {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b recordKey) int {
		if a.vsid != b.vsid {
			return int(a.vsid.Uint32()) - int(b.vsid.Uint32())
		}
		return a.ca.Compare(b.ca)
	})
	route := func(priority int, match string, r Record) {
		add("table=%d,priority=%d,ip,reg1=%d%s actions=dec_ttl,mod_dl_src:%s,mod_dl_dst:%s,load:%s->NXM_NX_REG0[],resubmit(,%d)",
			flowRoute, priority, number, match, hnv.RouterMAC, r.MAC, r.VSID, flowDeliver)
	}
	for _, k := range keys {
		r := s.records[k]
		add("table=%d,priority=100,arp,reg0=%s,arp_op=1,arp_tpa=%s actions=%s", flowFromVM, r.VSID, r.CA, arpAnswer(r.CA, r.MAC))
		route(1032, ",nw_dst="+r.CA.String(), r)
		// RFC 7637 section 3.2: the FlowID carries entropy for ECMP.
		add("table=%d,priority=100,reg0=%s,dl_dst=%s actions=set_field:%#x->tun_id,multipath(symmetric_l4,1024,modulo_n,256,0,NXM_NX_TUN_ID[0..7]),set_field:%s->tun_dst,output:nvgre0",
			flowDeliver, r.VSID, r.MAC, r.VSID.Uint32()<<8, r.PA)
	}
	if r, ok := s.records[recordKey{t.GatewayVSID, t.GatewayCA}]; ok {
		route(1000, "", r)
	}
}

// floodFlows carry broadcast and multicast inside a virtual subnet: to the other
// VMs here, and from here one copy to each other host of the subnet (RFC 7637
// section 4.2).
func (s *hostState) floodFlows(t Tenant, add func(string, ...any)) {
	const group = "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00"
	for _, n := range t.Subnets {
		var here []string
		for _, port := range sortedKeys(s.local) {
			if vm := s.local[port]; vm.Tenant == t.Name && vm.VSID == n.VSID {
				here = append(here, "output:"+port)
			}
		}
		pas := map[string]bool{}
		for k, r := range s.records {
			if _, ok := t.Subnet(k.vsid); ok && k.vsid == n.VSID && r.PA != s.pa {
				pas[r.PA.String()] = true
			}
		}
		var tunnels []string
		for _, pa := range sortedKeys(pas) {
			tunnels = append(tunnels, fmt.Sprintf("set_field:%#x->tun_id,set_field:%s->tun_dst,output:nvgre0", n.VSID.Uint32()<<8, pa))
		}
		if len(tunnels) > 0 && s.asks {
			add("table=%d,priority=60,arp,reg0=%s,arp_op=1 actions=%s", flowFromVM, n.VSID, strings.Join(tunnels, ","))
		}
		away := slices.Concat(here, tunnels)
		if len(away) > 0 {
			add("table=%d,priority=120,ip,reg0=%s,%s actions=%s", flowDeliver, n.VSID, group, strings.Join(away, ","))
		}
		if len(here) > 0 {
			add("table=%d,priority=120,ip,reg0=%s,%s actions=%s", flowFromTunnel, n.VSID, group, strings.Join(here, ","))
		}
	}
}

// arpAnswer turns a request into the answer that the CA has the MAC address.
func arpAnswer(ca netip.Addr, mac hnv.MAC) string {
	b, a := mac.Bytes(), ca.As4()
	return strings.Join([]string{
		"move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]",
		"mod_dl_src:" + mac.String(),
		"load:2->NXM_OF_ARP_OP[]",
		"move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]",
		fmt.Sprintf("load:0x%x->NXM_NX_ARP_SHA[]", b[:]),
		"move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[]",
		fmt.Sprintf("load:0x%x->NXM_OF_ARP_SPA[]", a[:]),
		"in_port",
	}, ",")
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
