package v1

// Where a lookup record comes from.
const (
	OriginConfigured = "configured" // an operator or orchestrator wrote it
	OriginGateway    = "gateway"    // derived from a compartment; it cannot be written
	OriginSubnet     = "subnet"     // what a virtual subnet has of itself: its router, its DHCP server; likewise
)

// LookupRecord says behind which provider address, and under which MAC, a
// customer address of a virtual subnet is found.
type LookupRecord struct {
	VSID     uint32   `json:"vsid" doc:"Virtual subnet of the customer address." minimum:"4096" maximum:"16777214" example:"5001"`
	CA       string   `json:"ca,omitempty" doc:"Customer address. Only type l2only may leave it out." example:"10.1.1.11"`
	MAC      string   `json:"mac" doc:"MAC address of the VM's network adapter: 00:15:5d:00:00:01, 00-15-5D-00-00-01 or 00155D000001." example:"00:15:5d:00:00:01"`
	PA       string   `json:"pa" doc:"Provider address of the host where the VM runs; empty for a virtual subnet's router, which every host is itself." example:"192.168.1.10"`
	TeamPAs  []string `json:"teamPAs,omitempty" doc:"Further provider addresses of the same host, those of the other members of its NIC team: flows are spread over all of them. Of the address family of pa; not with rule rewrite." maxItems:"7" nullable:"false" example:"[\"192.168.1.11\"]"`
	Rule     string   `json:"rule,omitempty" doc:"How packets reach the provider address. Left out: the tenant's encapsulation." enum:"nvgre,vxlan,rewrite"`
	Type     string   `json:"type,omitempty" doc:"Left out: static." enum:"static,dynamic,l2only,gateway-wildcard"`
	VMName   string   `json:"vmName,omitempty" doc:"Name of the VM, for people." maxLength:"256" example:"SQL"`
	Context  string   `json:"context,omitempty" doc:"The operator's own mark; it has no effect." maxLength:"256"`
	UseVMMAC bool     `json:"useVMMAC,omitempty" doc:"Keep the VM's source MAC on routed packets."`

	Tenant string `json:"tenant,omitempty" doc:"Tenant of the VSID. It may be left out on writing; given, it must be the right one." example:"contoso"`
	RDID   string `json:"rdid,omitempty" doc:"Routing domain of the VSID. It may be left out on writing; given, it must be the right one. Lists leave it out."`
	Origin string `json:"origin,omitempty" doc:"Where the record comes from: configured, gateway for the record of a compartment, or subnet for a virtual subnet's distributed router and DHCP server; the latter two cannot be written. On writing it may be left out or say configured." enum:"configured,gateway,subnet"`
}

// LookupRecordList is what GET /v1/lookup-records answers.
type LookupRecordList struct {
	Items    []LookupRecord `json:"items" doc:"The records, sorted by VSID and address." nullable:"false"`
	Continue string         `json:"continue,omitempty" doc:"Where the list goes on, for the query parameter of this name; empty at its end. What is added or deleted while a list is read may be missing or not; of all else nothing is missing or given twice."`
}

// CustomerRoute leads a prefix of a routing domain to a next hop in one of its
// virtual subnets. The subnets' own prefixes need no route.
type CustomerRoute struct {
	VSID    uint32 `json:"vsid" doc:"Virtual subnet in which the next hop lives; it also says which routing domain is meant." minimum:"4096" maximum:"16777214" example:"5000"`
	Prefix  string `json:"prefix" doc:"Destination prefix." example:"0.0.0.0/0"`
	NextHop string `json:"nextHop" doc:"Customer address of the next hop." example:"10.254.254.2"`
	Metric  uint32 `json:"metric,omitempty" doc:"Of several routes of one prefix the lowest metric wins."`

	Tenant string `json:"tenant,omitempty" doc:"Tenant of the VSID. It may be left out on writing; given, it must be the right one." example:"contoso"`
	RDID   string `json:"rdid,omitempty" doc:"Routing domain of the VSID. It may be left out on writing; given, it must be the right one."`
}

// CustomerRouteList is what GET /v1/customer-routes answers.
type CustomerRouteList struct {
	Items []CustomerRoute `json:"items" doc:"The customer routes, sorted by VSID and prefix." nullable:"false"`
}

// ProviderAddress is an address of this machine on the datacenter fabric.
type ProviderAddress struct {
	Address   string `json:"address" doc:"The address with the length of its on-link prefix." example:"192.168.1.10/24"`
	Interface string `json:"interface" doc:"One of this machine's PA interfaces, as its configuration file has them." example:"eth1"`
	VLAN      uint16 `json:"vlan,omitempty" doc:"VLAN the address lives in; 0 or left out: untagged." maximum:"4094"`
}

// ProviderAddressList is what GET /v1/provider-addresses answers.
type ProviderAddressList struct {
	Items []ProviderAddress `json:"items" doc:"The provider addresses, sorted." nullable:"false"`
}

// ProviderRoute leads to provider addresses that are not on-link.
type ProviderRoute struct {
	Prefix  string `json:"prefix" doc:"Prefix of the provider network." example:"192.168.2.0/24"`
	NextHop string `json:"nextHop" doc:"Router on the fabric, on-link to a provider address." example:"192.168.1.1"`
	Metric  uint32 `json:"metric,omitempty" doc:"Of several routes of one prefix the lowest metric wins."`
}

// ProviderRouteList is what GET /v1/provider-routes answers.
type ProviderRouteList struct {
	Items []ProviderRoute `json:"items" doc:"The provider routes, sorted by prefix." nullable:"false"`
}

// Port plugs a VM's network interface on this machine into a virtual subnet.
type Port struct {
	Interface string `json:"interface" doc:"Linux interface of the VM on this machine." maxLength:"15" example:"vm1"`
	VSID      uint32 `json:"vsid" doc:"Virtual subnet the VM is in." minimum:"4096" maximum:"16777214" example:"5001"`
	MAC       string `json:"mac" doc:"MAC address of the VM; the only source address the port lets in." example:"00:15:5d:00:00:01"`
	ACL       string `json:"acl,omitempty" doc:"Name of an ACL of the tenant, instead of the virtual subnet's. Left out: the virtual subnet's, or what the machine has for ports without any." example:"web"`
	InKbps    uint64 `json:"inKbps,omitempty" doc:"Rate limit towards the VM in 1000 bit/s. Left out or 0: none."`
	OutKbps   uint64 `json:"outKbps,omitempty" doc:"Rate limit of what comes from the VM in 1000 bit/s. Left out or 0: none."`
}

// PortList is what GET /v1/ports answers.
type PortList struct {
	Items []Port `json:"items" doc:"The ports, sorted by interface." nullable:"false"`
}

// NATMapping makes a VM's port reachable from outside at an external one.
type NATMapping struct {
	Tenant   string `json:"tenant" doc:"Tenant of the VM." example:"contoso"`
	Proto    string `json:"proto" doc:"Transport protocol." enum:"tcp,udp"`
	External string `json:"external" doc:"External end, ADDR:PORT: an address of the tenant's NAT pool and a port of it." example:"203.0.113.10:443"`
	Internal string `json:"internal" doc:"The VM's end, CA:PORT." example:"10.1.1.12:443"`
}

// NATMappingList is what GET /v1/nat-mappings answers.
type NATMappingList struct {
	Items []NATMapping `json:"items" doc:"The static mappings, sorted by protocol and external end." nullable:"false"`
}
