package v1

// The ways out of a compartment.
const (
	ViaOverlay   = "overlay"   // into the tenant's virtual network
	ViaNAT       = "nat"       // to the uplink, translated
	ViaForward   = "forward"   // over an attachment, as it is
	ViaS2S       = "s2s"       // through a site-to-site connection
	ViaLocal     = "local"     // to the compartment itself
	ViaBlackhole = "blackhole" // refused by a route, as that of an aggregate
	ViaNone      = "none"      // no route, or nothing that lets it out
)

// PathQuery asks which way packets of a compartment go.
type PathQuery struct {
	Dst string // destination address
	Src string // source address; empty: one of the tenant's virtual network
}

// PathExplanation tells which way the packets of a tenant to a destination leave
// its compartment, and why.
type PathExplanation struct {
	Tenant  string `json:"tenant" doc:"Tenant of the compartment." example:"contoso"`
	Dst     string `json:"dst" doc:"Destination." example:"172.16.5.9"`
	Src     string `json:"src,omitempty" doc:"Source, where one was given."`
	Via     string `json:"via" doc:"The way: overlay (into the virtual network), nat (to the uplink, translated), forward (over an attachment, as it is), s2s (through a site-to-site connection), local (to the compartment itself), blackhole (refused by a route), or none." enum:"overlay,nat,forward,s2s,local,blackhole,none" example:"s2s"`
	Through string `json:"through,omitempty" doc:"Name of the uplink, attachment or connection." example:"hq"`
	Reason  string `json:"reason" doc:"Why, in a sentence." example:"172.16.0.0/16 is the most specific route to it; BGP peer hq1 told of it"`

	Route  *PathRoute  `json:"route,omitempty" doc:"The route that is taken; left out where there is none."`
	Others []PathRoute `json:"others" doc:"Routes that match too and are not taken, the most specific first." nullable:"false"`
	// Translated is what becomes of the addresses.
	Translated string `json:"translated,omitempty" doc:"What becomes of the packet's addresses, in words; empty: nothing." example:"the source becomes an address of 203.0.113.10"`
	MTU        int    `json:"mtu,omitempty" doc:"Bytes of the largest packet that goes this way; 0: not known."`
}

// PathRoute is a route of a compartment.
type PathRoute struct {
	Prefix   string    `json:"prefix" doc:"Destination of the route." example:"172.16.0.0/16"`
	Type     string    `json:"type,omitempty" doc:"unicast where left out, else local, blackhole, unreachable or prohibit."`
	NextHops []PathHop `json:"nextHops" doc:"Where it leads; several share the flows." nullable:"false"`
	From     string    `json:"from" doc:"Who made it: overlay (the virtual network), nat (the uplink), attachment, s2s, bgp, kernel (a link's own prefix), or the number of another routing protocol." example:"bgp"`
	Metric   uint32    `json:"metric,omitempty" doc:"Of several routes of one prefix the lowest is taken."`
	Why      string    `json:"why,omitempty" doc:"Why it is not the one taken; empty of the one that is." example:"less specific"`
}

// PathHop is a next hop of a route.
type PathHop struct {
	Address   string `json:"address,omitempty" doc:"Router; empty: the destination is on the link itself." example:"169.254.10.2"`
	Interface string `json:"interface" doc:"Link in the compartment." example:"wg-hq"`
	Weight    int    `json:"weight,omitempty" doc:"Share of the flows among several."`
}
