package v1

// Tenant is one routing domain: a tenant's virtual network. Where it has a
// gateway, this machine runs the compartment that leads it outside.
type Tenant struct {
	Name    string   `json:"name" doc:"Name of the tenant: a DNS label (RFC 1123) of at most 40 characters." example:"contoso" maxLength:"40"`
	RDID    string   `json:"rdid,omitempty" doc:"Routing domain ID, a GUID. Left out when the tenant is created, one is drawn; left out later, it stays." example:"5b1c6a3e-0d0c-4f55-9a5e-1f3c2f0a7b11"`
	Encap   string   `json:"encap" doc:"How the tenant's packets ride over the fabric: NVGRE (RFC 7637) or VXLAN (RFC 7348)." enum:"nvgre,vxlan"`
	Subnets []Subnet `json:"subnets" doc:"The virtual subnets, the gateway subnet among them." minItems:"1" nullable:"false"`
	Gateway *Gateway `json:"gateway,omitempty" doc:"The tenant's compartment on this machine. Left out where the machine only hosts VMs of the tenant."`
	QoS     *QoS     `json:"qos,omitempty" doc:"Limits and marks of the tenant's traffic. Left out: no limit, DSCP 0 on the fabric."`
	// StormPPS bounds broadcasts.
	StormPPS uint32 `json:"stormPPS,omitempty" doc:"How many broadcast and multicast frames the tenant's ports of this machine may send in a second. Left out or 0: 1000." maximum:"10000000" example:"1000"`
}

// QoS limits a tenant's traffic on this machine and marks it on the fabric.
type QoS struct {
	InKbps  uint64 `json:"inKbps,omitempty" doc:"Rate limit towards the tenant's ports of this machine, all together, in 1000 bit/s. Left out or 0: none." example:"1000000"`
	OutKbps uint64 `json:"outKbps,omitempty" doc:"Rate limit of what comes from these ports, all together, in 1000 bit/s. Left out or 0: none." example:"500000"`
	DSCP    string `json:"dscp,omitempty" doc:"Differentiated services code point of the outer header (RFC 2474): copy for that of the inner packet, or a number from 0 to 63. Left out: 0." example:"copy"`
}

// Subnet is a virtual subnet: one broadcast domain, one VSID.
type Subnet struct {
	VSID     uint32   `json:"vsid" doc:"Virtual subnet ID, unique in the datacenter (RFC 7637 section 3.4 reserves what is outside the range)." minimum:"4096" maximum:"16777214" example:"5001"`
	Prefixes []string `json:"prefixes" doc:"Address ranges of the subnet, each PREFIX or PREFIX@GATEWAY, where GATEWAY is the distributed router's address in it; unless given, that is the lowest usable one." minItems:"1" example:"[\"10.1.1.0/24\", \"10.1.9.0/24@10.1.9.254\"]" nullable:"false"`

	ACL            string    `json:"acl,omitempty" doc:"Name of the tenant's ACL for ports of the subnet that name none of their own." example:"web"`
	Learning       *Learning `json:"learning,omitempty" doc:"Allows customer addresses to be learned from what VMs with a record of type l2only send (ARP, ND, DHCP). Left out: nothing is learned. An empty object takes the defaults."`
	MulticastGroup string    `json:"multicastGroup,omitempty" doc:"Multicast group of the provider network that carries the subnet's broadcasts. Left out: each host gets its copy by unicast." example:"239.1.1.1"`
	DHCP           string    `json:"dhcp,omitempty" doc:"Customer address of the subnet's DHCP server, in the subnet." example:"10.1.1.5"`
}

// Learning bounds what is learned in a virtual subnet.
type Learning struct {
	MaxPerPort uint16 `json:"maxPerPort,omitempty" doc:"How many customer addresses are learned at one port. Left out or 0: 8." maximum:"1024"`
	AgeSeconds uint32 `json:"ageSeconds,omitempty" doc:"How long an address is kept without a sign of life. Left out or 0: 1200." maximum:"604800"`
}

// Gateway is a tenant's compartment on this machine.
type Gateway struct {
	VSID   uint32   `json:"vsid" doc:"The gateway subnet: the one of the tenant's virtual subnets in which the compartment lives." minimum:"4096" maximum:"16777214" example:"5000"`
	CAs    []string `json:"cas,omitempty" doc:"The compartment's customer addresses in the gateway subnet, at most one of each family. Left out: the lowest usable ones that are not the distributed router's." example:"[\"10.254.254.2\"]" nullable:"false"`
	Uplink string   `json:"uplink" doc:"Name of an uplink of this machine, as its configuration file has it." example:"internet"`
	NAT    *NAT     `json:"nat,omitempty" doc:"Address translation towards the uplink."`
}

// NAT is what a tenant's packets are translated to.
type NAT struct {
	Pool            []string `json:"pool" doc:"External addresses, each ADDR (the whole address) or ADDR:LO-HI (a range of its TCP and UDP ports and ICMP identifiers, so that tenants can share it); an IPv6 address with ports stands in brackets." minItems:"1" example:"[\"203.0.113.10\", \"203.0.113.11:20000-29999\"]" nullable:"false"`
	ConnectionLimit uint32   `json:"connectionLimit,omitempty" doc:"How many connections of the tenant are tracked at once. Left out or 0: 65536." example:"65536"`
	Offload         string   `json:"offload,omitempty" doc:"Whether the packets of established connections are translated in the kernel's programs, past the compartment, where the gateway's configuration allows it. Left out or auto: as the gateway does." enum:"auto,on,off" example:"off"`
}

// TenantList is what GET /v1/tenants answers.
type TenantList struct {
	Items []Tenant `json:"items" doc:"The tenants, sorted by name." nullable:"false"`
}
