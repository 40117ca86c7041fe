package v1

// BGPStatus is the observed state of a tenant's BGP speaker.
type BGPStatus struct {
	Tenant     string          `json:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Phase      Phase           `json:"phase" doc:"The state in one word." enum:"Ready,Pending,Degraded,Error"`
	Message    string          `json:"message,omitempty" doc:"What is wrong and what to do; empty when Ready."`
	ASN        uint32          `json:"asn" doc:"AS number of the speaker." example:"64512"`
	RouterID   string          `json:"routerID,omitempty" doc:"Its router ID; empty while not known." example:"203.0.113.10"`
	Restarting bool            `json:"restarting,omitempty" doc:"It was started anew: routes of before are in use until all peers have told theirs."`
	Withheld   bool            `json:"withheld,omitempty" doc:"Nothing is advertised, because the compartment cannot forward."`
	FIB        BGPFIB          `json:"fib" doc:"Learned routes in the compartment's routing table."`
	Aggregates []string        `json:"aggregates" doc:"Aggregates that are advertised now." nullable:"false"`
	Networks   []string        `json:"networks" doc:"Prefixes that are advertised as the tenant's own." nullable:"false"`
	Peers      []BGPPeerStatus `json:"peers" doc:"The neighbours, sorted by name and address; dynamic ones stand behind the peer that they connected by." nullable:"false"`
}

// BGPFIB counts learned routes in the compartment's routing table.
type BGPFIB struct {
	Installed  int    `json:"installed" doc:"Routes in it."`
	Unresolved int    `json:"unresolved,omitempty" doc:"Routes whose next hop cannot be reached now; tried again."`
	Stale      int    `json:"stale,omitempty" doc:"Routes of an earlier process, which nobody has told anew yet."`
	Conflicts  int    `json:"conflicts,omitempty" doc:"Routes whose place something else has."`
	Repaired   uint64 `json:"repaired,omitempty" doc:"Routes that somebody else had changed or removed, and were put right."`
	LastError  string `json:"lastError,omitempty" doc:"What the kernel refused last."`
}

// BGPPeerStatus is the state of one neighbour.
type BGPPeerStatus struct {
	Name      string `json:"name" doc:"Name of the peer." example:"hq1"`
	Address   string `json:"address,omitempty" doc:"Its address; empty of a peer by prefix to which nobody is connected." example:"169.254.10.2"`
	Dynamic   bool   `json:"dynamic,omitempty" doc:"It connected from the peer's prefix."`
	ASN       uint32 `json:"asn" doc:"Its AS number." example:"65001"`
	Session   string `json:"session" doc:"State of the session (RFC 4271 section 8.2.2)." enum:"idle,connect,active,opensent,openconfirm,established" example:"established"`
	LastError string `json:"lastError,omitempty" doc:"Why the session is not established, as far as known."`
	// Seconds instead of times, since clocks differ.
	SinceSeconds *uint64 `json:"sinceSeconds,omitempty" doc:"Seconds that it has been up, or down. Left out: it never was up."`
	RouterID     string  `json:"routerID,omitempty" doc:"Its router ID."`
	Local        string  `json:"local,omitempty" doc:"This end's address of the session."`
	Hold         uint32  `json:"holdSeconds,omitempty" doc:"Hold time as agreed on."`
	Keepalive    uint32  `json:"keepaliveSeconds,omitempty" doc:"Seconds between keepalives, as agreed on."`
	OverLimit    bool    `json:"overLimit,omitempty" doc:"It sent more prefixes than its limit, so the session was ended."`
	RetrySeconds uint64  `json:"retrySeconds,omitempty" doc:"Seconds until it may try again after that."`
	BFD          string  `json:"bfd,omitempty" doc:"State of the BFD session: up, down, init or admin-down; empty where there is none."`
	Flaps        uint32  `json:"flaps,omitempty" doc:"Sessions that ended soon after they came up."`

	Families []BGPFamilyStatus `json:"families" doc:"Prefixes by address family." nullable:"false"`
	Received BGPMessages       `json:"received" doc:"Messages from it."`
	Sent     BGPMessages       `json:"sent" doc:"Messages to it."`
}

// BGPFamilyStatus counts the prefixes of one address family.
type BGPFamilyStatus struct {
	Family     string  `json:"family" doc:"Address family." enum:"ipv4,ipv6"`
	Received   uint64  `json:"received" doc:"Prefixes that it sent."`
	Accepted   uint64  `json:"accepted" doc:"Those that the protocol's own checks let pass, before the import policy."`
	Advertised *uint64 `json:"advertised,omitempty" doc:"Prefixes that it is sent. Left out where there are too many to count."`
	Limit      uint32  `json:"limit" doc:"How many it may send."`
}

// BGPMessages counts the messages of one direction.
type BGPMessages struct {
	Updates       uint64 `json:"updates" doc:"UPDATE messages."`
	Keepalives    uint64 `json:"keepalives" doc:"KEEPALIVE messages."`
	Notifications uint64 `json:"notifications" doc:"NOTIFICATION messages."`
	Refreshes     uint64 `json:"refreshes" doc:"ROUTE-REFRESH messages."`
}

// The tables of routes.
const (
	BGPBest       = "best"       // what is in use, of all neighbours and of this speaker
	BGPAll        = "all"        // all that import policies let pass, and own ones
	BGPReceived   = "received"   // what a neighbour sent, before the import policy
	BGPAdvertised = "advertised" // what a neighbour is sent, as it is sent
)

// BGPRouteQuery chooses routes.
type BGPRouteQuery struct {
	Table  string // one of the tables above
	Peer   string // name or address of the neighbour; of received and advertised only
	Within string // a prefix: only it and those inside; empty: all
	Limit  int    // at most so many
}

// BGPRoute is one neighbour's word, or the speaker's own, about a prefix.
type BGPRoute struct {
	Prefix string `json:"prefix" doc:"Destination." example:"172.16.0.0/16"`
	Peer   string `json:"peer,omitempty" doc:"Who told of it, by name where it has one; empty: this speaker." example:"hq1"`
	From   string `json:"from,omitempty" doc:"Address of who told of it; empty: this speaker." example:"169.254.10.2"`
	Best   bool   `json:"best,omitempty" doc:"It is in use."`
	// Rejected and Stale are why a route is not, or may soon not be, in use.
	Rejected         bool     `json:"rejected,omitempty" doc:"Received and not taken: the import policy rejects it, or the own AS is in its path."`
	Stale            bool     `json:"stale,omitempty" doc:"Kept over the neighbour's restart."`
	AgeSeconds       uint64   `json:"ageSeconds" doc:"Seconds since it was told."`
	NextHop          string   `json:"nextHop,omitempty" doc:"Next hop." example:"169.254.10.2"`
	ASPath           string   `json:"asPath" doc:"AS path, sets in braces; empty: of this AS." example:"65001 65010"`
	Origin           string   `json:"origin" doc:"Origin attribute." enum:"igp,egp,incomplete"`
	MED              *uint32  `json:"med,omitempty" doc:"Multi-exit discriminator."`
	LocalPref        *uint32  `json:"localPref,omitempty" doc:"Local preference."`
	Communities      []string `json:"communities,omitempty" doc:"Communities (RFC 1997)." nullable:"false" example:"[\"65001:100\", \"no-export\"]"`
	LargeCommunities []string `json:"largeCommunities,omitempty" doc:"Large communities (RFC 8092)." nullable:"false" example:"[\"65001:1:2\"]"`
	Aggregator       string   `json:"aggregator,omitempty" doc:"AS number and router ID of who aggregated it."`
	AtomicAggregate  bool     `json:"atomicAggregate,omitempty" doc:"Paths of more specific routes were left out."`
}

// BGPRouteList is what GET /v1/tenants/{name}/bgp/routes answers.
type BGPRouteList struct {
	Items     []BGPRoute `json:"items" doc:"The routes, sorted by prefix, the best one of each first; at most as many as asked for." nullable:"false"`
	Truncated bool       `json:"truncated" doc:"True when there are more."`
}

// BGPSoftReset is what POST /v1/tenants/{name}/bgp/soft-reset takes.
type BGPSoftReset struct {
	Peer string `json:"peer" doc:"Name or address of the neighbour." example:"hq1"`
	In   bool   `json:"in,omitempty" doc:"Apply the import policy anew to what it sent."`
	Out  bool   `json:"out,omitempty" doc:"Send it anew what the export policy lets pass. Neither in nor out: both."`
}
