package v1

// S2SStatus is the observed state of a site-to-site connection.
type S2SStatus struct {
	Tenant         string          `json:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name           string          `json:"name" doc:"Name of the connection." example:"hq"`
	Phase          Phase           `json:"phase" doc:"The state in one word." enum:"Ready,Pending,Degraded,Error"`
	Message        string          `json:"message,omitempty" doc:"What is wrong and what to do; empty when Ready."`
	Interface      string          `json:"interface" doc:"Link in the tenant's compartment." example:"wg-hq"`
	Implementation string          `json:"implementation,omitempty" doc:"Who encrypts: kernel, its own WireGuard device, or embedded, wireguard-go in the compartment's agent; empty while not known." example:"embedded"`
	Reason         string          `json:"reason,omitempty" doc:"Why it is that one." example:"this kernel has no WireGuard"`
	PublicKey      string          `json:"publicKey" doc:"Public key of this end." example:"cU7p9SLgPoy2wgFGBRIxIHkMYsPeRWcFNWtuXYVTpQY="`
	Endpoint       string          `json:"endpoint,omitempty" doc:"Where this end is reached from outside, ADDR:PORT; empty where it cannot be." example:"203.0.113.10:51820"`
	ListenPort     uint16          `json:"listenPort,omitempty" doc:"UDP port it listens at; 0 while not known." example:"51820"`
	MTU            int             `json:"mtu,omitempty" doc:"Bytes of the largest IP packet inside the tunnel; 0 while not known." example:"1420"`
	InboundDrops   uint64          `json:"inboundDrops,omitempty" doc:"Packets from the site that were over inboundKbps."`
	OutboundDrops  uint64          `json:"outboundDrops,omitempty" doc:"Packets to the site that were over outboundKbps."`
	Peers          []S2SPeerStatus `json:"peers" doc:"The other ends, in the order of the connection." nullable:"false"`
}

// What liveness can be.
const (
	LivenessUnprobed = "unprobed" // nothing to probe, or nothing to probe from
	LivenessUnknown  = "unknown"  // no answer yet, and not given up
	LivenessUp       = "up"
	LivenessDown     = "down"
)

// S2SPeerStatus is the observed state of the other end of a connection.
type S2SPeerStatus struct {
	Name      string `json:"name" doc:"Name of the peer." example:"hq1"`
	PublicKey string `json:"publicKey" doc:"Its public key."`
	Endpoint  string `json:"endpoint,omitempty" doc:"Where it was heard last, or is expected, ADDR:PORT; empty where it has not called yet." example:"198.51.100.7:51820"`
	// Ages instead of times, since clocks differ.
	HandshakeAge *uint64  `json:"handshakeSeconds,omitempty" doc:"Seconds since the last handshake. Left out: there was none." example:"47"`
	RxBytes      uint64   `json:"rxBytes" doc:"Bytes that came from it, as they were on the wire."`
	TxBytes      uint64   `json:"txBytes" doc:"Bytes that went to it, likewise."`
	Prefixes     []string `json:"prefixes" doc:"Prefixes behind it." nullable:"false"`
	FromBGP      bool     `json:"fromBGP,omitempty" doc:"What else is behind it, BGP says."`
	Liveness     string   `json:"liveness" doc:"What probes through the tunnel found: unprobed, unknown (no answer yet, and not given up), up or down." enum:"unprobed,unknown,up,down"`
	SinceSeconds uint64   `json:"sinceSeconds,omitempty" doc:"Seconds since liveness became what it is."`
	LossPercent  float64  `json:"lossPercent" doc:"Share of the last probes that were not answered." example:"0"`
	RTT          int64    `json:"rttNanoseconds,omitempty" doc:"Smoothed round-trip time of the probes in nanoseconds; 0: none was answered." example:"820000"`
	PathMTU      int      `json:"pathMTU,omitempty" doc:"Bytes of the largest IP packet that gets through the tunnel to it, found by probes where its path drops larger ones and says nothing. Left out: it does not, as far as is known." example:"1328"`
	Priority     uint32   `json:"priority,omitempty" doc:"Of several ways to a prefix the lowest that is alive is taken."`
	Weight       uint16   `json:"weight,omitempty" doc:"Share of the flows among ways of one priority."`
	Active       bool     `json:"active" doc:"Packets to at least one of its prefixes go this way now."`
}

// S2SStatusList is what GET /v1/tenants/{name}/s2s answers.
type S2SStatusList struct {
	Items []S2SStatus `json:"items" doc:"The connections of the tenant, sorted by name." nullable:"false"`
}

// S2SPeerConfig is what the other end of a connection needs to know.
type S2SPeerConfig struct {
	Tenant string `json:"tenant" doc:"Tenant of the connection." example:"contoso"`
	Name   string `json:"name" doc:"Name of the connection." example:"hq"`
	Peer   string `json:"peer" doc:"The other end." example:"hq1"`

	PublicKey    string   `json:"publicKey" doc:"Public key of the gateway."`
	Endpoint     string   `json:"endpoint,omitempty" doc:"Where the gateway is reached, ADDR:PORT; empty where it cannot be and calls itself." example:"203.0.113.10:51820"`
	Addresses    []string `json:"addresses" doc:"Addresses of the other end inside the tunnel, each with the length of the link's prefix." nullable:"false" example:"[\"169.254.10.2/30\"]"`
	ListenPort   uint16   `json:"listenPort,omitempty" doc:"UDP port that the gateway calls at the other end; 0: it does not."`
	AllowedIPs   []string `json:"allowedIPs" doc:"Prefixes behind the gateway, as the site sees them." nullable:"false"`
	Keepalive    uint16   `json:"keepalive,omitempty" doc:"Seconds between keepalives that the other end should send; 0: none."`
	MTU          int      `json:"mtu,omitempty" doc:"MTU of the tunnel in bytes; 0 leaves it to the other end."`
	PresharedKey bool     `json:"presharedKey,omitempty" doc:"There is a pre-shared key, which POST /v1/s2s-connections/{tenant}/{name}/export-key gives."`

	Quick  string `json:"quick" doc:"All of that as a file for wg-quick(8). It holds no secret: where one belongs, a comment says so."`
	BGP    string `json:"bgp,omitempty" doc:"With bgp: the configuration of the other end's router, likewise without secrets."`
	Router string `json:"router,omitempty" doc:"With bgp: whose configuration that is." enum:"frr,bird,vyos"`
}

// S2SKeyRequest is what POST /v1/s2s-connections/{tenant}/{name}/export-key takes.
type S2SKeyRequest struct {
	Peer string `json:"peer,omitempty" doc:"Give the pre-shared key of this peer. Left out: the private key of this end."`
}

// S2SKey is what it answers. It is a secret.
type S2SKey struct {
	PublicKey    string `json:"publicKey" doc:"Public key of this end, or of the peer." `
	PrivateKey   string `json:"privateKey,omitempty" doc:"Private key of this end, as wg(8) writes it."`
	PresharedKey string `json:"presharedKey,omitempty" doc:"Pre-shared key of the peer, likewise."`
}

// AttachmentStatus is the observed state of an attachment.
type AttachmentStatus struct {
	Tenant    string   `json:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name      string   `json:"name" doc:"Name of the attachment." example:"dc"`
	Phase     Phase    `json:"phase" doc:"The state in one word." enum:"Ready,Pending,Degraded,Error"`
	Message   string   `json:"message,omitempty" doc:"What is wrong and what to do; empty when Ready."`
	Interface string   `json:"interface" doc:"Link in the tenant's compartment." example:"fw-dc"`
	Kind      string   `json:"kind" doc:"Kind of its uplink: routed, vlan, macvlan or bridge." example:"macvlan"`
	MAC       string   `json:"mac,omitempty" doc:"MAC address of the link; empty on a routed uplink."`
	MTU       int      `json:"mtu,omitempty" doc:"Bytes of the largest IP packet; 0 while not known."`
	Carrier   bool     `json:"carrier" doc:"Whether the link has a partner."`
	Addresses []string `json:"addresses" doc:"Its addresses." nullable:"false"`
	Received  Traffic  `json:"received" doc:"What came in over the link."`
	Sent      Traffic  `json:"sent" doc:"What went out over it."`
}

// AttachmentStatusList is what GET /v1/tenants/{name}/attachments answers.
type AttachmentStatusList struct {
	Items []AttachmentStatus `json:"items" doc:"The attachments of the tenant, sorted by name." nullable:"false"`
}

// AgentStatus is the state of what runs a tenant's tunnels and BGP: compartmentd,
// a process of its own in the tenant's compartment.
type AgentStatus struct {
	Running   bool   `json:"running" doc:"Whether it runs."`
	PID       int    `json:"pid,omitempty" doc:"Its process ID; 0 while it does not run."`
	Adopted   bool   `json:"adopted,omitempty" doc:"An earlier gatewayd started it."`
	Restarts  int    `json:"restarts" doc:"How often it was started again since gatewayd started."`
	Version   string `json:"version,omitempty" doc:"Release that it is of." example:"0.1.0"`
	LastError string `json:"lastError,omitempty" doc:"Why it ended last, or could not be started."`
}

// Tally counts how many of something are as they should be.
type Tally struct {
	Up    int `json:"up" doc:"How many are up."`
	Total int `json:"total" doc:"How many there are."`
}

// DerivedRoutes are the routes to sites that the virtual network is told.
type DerivedRoutes struct {
	Used    int `json:"used" doc:"Routes of tunnels, attachments and BGP that the tenant's hosts are told as customer routes."`
	LeftOut int `json:"leftOut,omitempty" doc:"Routes that are more than fit; the default route leads to the compartment for these."`
}
