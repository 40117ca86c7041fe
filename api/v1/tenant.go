package v1

// Tenant is one routing domain: a tenant's virtual network. Where it has a
// gateway, this machine runs the compartment that leads it outside.
type Tenant struct {
	Name    string   `json:"name" doc:"Name of the tenant: a DNS label (RFC 1123) of at most 40 characters." example:"contoso" maxLength:"40"`
	RDID    string   `json:"rdid,omitempty" doc:"Routing domain ID, a GUID. Left out when the tenant is created, one is drawn; left out later, it stays." example:"5b1c6a3e-0d0c-4f55-9a5e-1f3c2f0a7b11"`
	Encap   string   `json:"encap" doc:"How the tenant's packets ride over the fabric: NVGRE (RFC 7637) or VXLAN (RFC 7348)." enum:"nvgre,vxlan"`
	Subnets []Subnet `json:"subnets" doc:"The virtual subnets, the gateway subnet among them." minItems:"1" nullable:"false"`
	Gateway *Gateway `json:"gateway,omitempty" doc:"The tenant's compartment on this machine. Left out where the machine only hosts VMs of the tenant."`
}

// Subnet is a virtual subnet: one broadcast domain, one VSID.
type Subnet struct {
	VSID     uint32   `json:"vsid" doc:"Virtual subnet ID, unique in the datacenter (RFC 7637 section 3.4 reserves what is outside the range)." minimum:"4096" maximum:"16777214" example:"5001"`
	Prefixes []string `json:"prefixes" doc:"Address ranges of the subnet, each PREFIX or PREFIX@GATEWAY, where GATEWAY is the distributed router's address in it; unless given, that is the lowest usable one." minItems:"1" example:"[\"10.1.1.0/24\", \"10.1.9.0/24@10.1.9.254\"]" nullable:"false"`
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
}

// TenantList is what GET /v1/tenants answers.
type TenantList struct {
	Items []Tenant `json:"items" doc:"The tenants, sorted by name." nullable:"false"`
}
