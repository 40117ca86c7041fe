package v1

import "time"

// Phase sums up the state of something in one word.
type Phase string

// The phases.
const (
	PhaseReady    Phase = "Ready"    // as desired
	PhasePending  Phase = "Pending"  // being built, or waiting for something that is named
	PhaseDegraded Phase = "Degraded" // traffic flows, but something is not as desired
	PhaseError    Phase = "Error"    // it cannot be built; the reason is named
)

// Condition is one aspect of a state, with its reason.
type Condition struct {
	Type    string    `json:"type" doc:"The aspect." example:"CompartmentReady"`
	Status  bool      `json:"status" doc:"Whether it holds."`
	Reason  string    `json:"reason" doc:"One word for programs." example:"UplinkMissing"`
	Message string    `json:"message,omitempty" doc:"A sentence for people: what is wrong and what to do."`
	Since   time.Time `json:"since" doc:"When Status last changed."`
}

// Repair tells of drift that was found and put right.
type Repair struct {
	Time time.Time `json:"time" doc:"When."`
	What []string  `json:"what" doc:"What differed from the desired state and was changed, in words." nullable:"false"`
}

// Traffic counts packets and their bytes.
type Traffic struct {
	Packets uint64 `json:"packets" doc:"Packets."`
	Bytes   uint64 `json:"bytes" doc:"Bytes."`
}

// Drop counts the packets dropped for one reason.
type Drop struct {
	Reason  string `json:"reason" doc:"Name of the reason, as docs/drop-reasons.md, docs/nat-drop-reasons.md or docs/gateway-drop-reasons.md has it." example:"source-pa-mismatch"`
	Packets uint64 `json:"packets" doc:"Packets dropped for it."`
}

// Counters are the packet counters of a tenant since gatewayd started.
type Counters struct {
	FromFabric Traffic `json:"fromFabric" doc:"Packets that came encapsulated with a VSID of the tenant; bytes of the outer IP packets."`
	ToFabric   Traffic `json:"toFabric" doc:"Packets sent encapsulated; bytes of the outer IP packets."`
	FromPorts  Traffic `json:"fromPorts" doc:"Frames taken from VMs and the compartment."`
	ToPorts    Traffic `json:"toPorts" doc:"Frames given to VMs and the compartment."`
	Answered   uint64  `json:"answered" doc:"ARP, neighbor discovery and echo requests answered by the distributed router."`
	ICMPErrors uint64  `json:"icmpErrors" doc:"ICMP errors sent by the distributed router."`
	Drops      []Drop  `json:"drops" doc:"Dropped packets by reason; reasons that never occurred are left out." nullable:"false"`
}

// NATStatus is what the translation in a tenant's compartment counts.
type NATStatus struct {
	Connections int    `json:"connections" doc:"Connections tracked now."`
	Drops       []Drop `json:"drops" doc:"Packets that it dropped by reason, as docs/nat-drop-reasons.md has them; reasons that never occurred are left out." nullable:"false"`

	Offload       string   `json:"offload" doc:"Who translates the packets of established connections: ebpf, the programs in the kernel, past the compartment, or kernel, the compartment." enum:"ebpf,kernel"`
	OffloadReason string   `json:"offloadReason,omitempty" doc:"Why the compartment does; empty where the programs do."`
	Offloaded     *Passage `json:"offloaded,omitempty" doc:"What the programs have translated, since the compartment was made; in the counters of the compartment it is not. Left out where it has no exit in the programs."`
}

// Passage counts what went in and out.
type Passage struct {
	In  Traffic `json:"in" doc:"From the outside."`
	Out Traffic `json:"out" doc:"To the outside."`
}

// TenantStatus is the observed state of a tenant.
type TenantStatus struct {
	Name             string      `json:"name" doc:"Name of the tenant."`
	RDID             string      `json:"rdid" doc:"Its routing domain ID."`
	Phase            Phase       `json:"phase" doc:"The state in one word." enum:"Ready,Pending,Degraded,Error"`
	Conditions       []Condition `json:"conditions" doc:"What the phase is made of." nullable:"false"`
	ObservedRevision int64       `json:"observedRevision" doc:"Store revision that the state was last brought in line with."`
	LastRepair       *Repair     `json:"lastRepair,omitempty" doc:"The last drift that was put right."`
	Repairs          uint64      `json:"repairs" doc:"How often drift was put right since gatewayd started."`
	Records          int         `json:"records" doc:"Number of lookup records, the compartment's own among them."`
	Compartment      string      `json:"compartment,omitempty" doc:"Name of the compartment's network namespace; empty where the tenant is only hosted."`
	Path             string      `json:"path,omitempty" doc:"Who forwards what arrives at the compartment's port: ebpf, the programs in the kernel, or go, gatewayd itself; empty where there is none." example:"ebpf"`
	PathReason       string      `json:"pathReason,omitempty" doc:"Why gatewayd does; empty where the programs do."`
	Counters         Counters    `json:"counters" doc:"Packet counters."`

	Layers []LayerCounters `json:"layers,omitempty" doc:"What the layers of the tenant's ports on this machine have counted, in the order in which packets from a port meet them; told when asked for this tenant alone: it is not in the state of the gateway."`
	NAT    *NATStatus      `json:"nat,omitempty" doc:"What the rules in its compartment count, those of NAT and of what it forwards, read from the kernel when asked for this tenant alone: it is not in the state of the gateway. Left out too where the tenant has neither here, or they are not in place."`

	Agent         *AgentStatus   `json:"agent,omitempty" doc:"The process that runs its tunnels and BGP. Left out where it has none of these."`
	Tunnels       *Tally         `json:"tunnels,omitempty" doc:"Its site-to-site connections; up is one of which at least one peer is alive, or was heard lately where nothing is probed. Left out where it has none."`
	BGPSessions   *Tally         `json:"bgpSessions,omitempty" doc:"Its BGP peers; up is one whose session is established. Left out where it has none."`
	DerivedRoutes *DerivedRoutes `json:"derivedRoutes,omitempty" doc:"Routes to its sites that its virtual network is told. Left out where there are none."`
}

// Feature is something the machine can do in more than one way, and which way
// was chosen.
type Feature struct {
	Name   string `json:"name" doc:"What is done." example:"dataplane"`
	Path   string `json:"path" doc:"The way chosen." example:"go"`
	Reason string `json:"reason" doc:"Why this way." example:"the configuration says so (path: go)"`
}

// LinkStatus is the state of a provider address, uplink or port.
type LinkStatus struct {
	Name       string `json:"name" doc:"The address, uplink or port." example:"192.168.1.10/24"`
	Interface  string `json:"interface" doc:"Linux interface behind it." example:"eth1"`
	Phase      Phase  `json:"phase" doc:"The state in one word." enum:"Ready,Pending,Degraded,Error"`
	MTU        int    `json:"mtu,omitempty" doc:"Bytes of the largest IP packet; 0 while not known."`
	Message    string `json:"message,omitempty" doc:"What is wrong and what to do; empty when Ready."`
	Path       string `json:"path,omitempty" doc:"Who forwards what arrives there: ebpf, the programs in the kernel, or go, gatewayd itself; empty while nobody does, and for uplinks." example:"ebpf"`
	PathReason string `json:"pathReason,omitempty" doc:"Why gatewayd does; empty where the programs do."`
}

// FastPathStatus is what the programs in the kernel do, since their tables were made:
// which may be before gatewayd started.
type FastPathStatus struct {
	Tables []FastPathTable `json:"tables" doc:"How full the tables are, sorted by name. A tenant that does not fit stays with gatewayd." nullable:"false"`
	Left   []FastPathLeft  `json:"left" doc:"Packets that were left to gatewayd by reason, the most frequent first; reasons that never occurred are left out." nullable:"false"`
}

// FastPathTable is a table of the programs.
type FastPathTable struct {
	Name string `json:"name" doc:"What it holds." example:"records"`
	Used uint32 `json:"used" doc:"Entries there are."`
	Max  uint32 `json:"max" doc:"Entries there may be."`
}

// FastPathLeft counts the packets left to gatewayd for one reason.
type FastPathLeft struct {
	Reason  string `json:"reason" doc:"Why." enum:"arp,group,fragment,options,dhcp,router,ttl,too-big,unknown,rewrite,shape,policy,slow,neighbor,icmp" example:"arp"`
	Packets uint64 `json:"packets" doc:"Packets left for it."`
}

// GatewayStatus is what GET /v1/status answers.
type GatewayStatus struct {
	Instance          string          `json:"instance" doc:"Name of this gateway on its machine." example:"hnv"`
	Phase             Phase           `json:"phase" doc:"The worst of what follows, in one word." enum:"Ready,Pending,Degraded,Error"`
	Version           Version         `json:"version" doc:"What is running."`
	Started           time.Time       `json:"started" doc:"When gatewayd started."`
	StoreRevision     int64           `json:"storeRevision" doc:"Revision of the desired state."`
	Conditions        []Condition     `json:"conditions" doc:"State of the gateway as a whole." nullable:"false"`
	Features          []Feature       `json:"features" doc:"Ways chosen on this machine, with the reasons." nullable:"false"`
	FastPath          *FastPathStatus `json:"fastPath,omitempty" doc:"What the programs in the kernel do; left out where gatewayd takes all packets itself."`
	ProviderAddresses []LinkStatus    `json:"providerAddresses" doc:"State of the provider addresses." nullable:"false"`
	Uplinks           []LinkStatus    `json:"uplinks" doc:"State of the uplinks." nullable:"false"`
	Ports             []LinkStatus    `json:"ports" doc:"State of the VM ports." nullable:"false"`
	Learned           *LearnedStatus  `json:"learned,omitempty" doc:"What was learned."`
	Peers             []PeerStatus    `json:"peers" doc:"State of the machines to which learned records are reported, as the configuration file has them." nullable:"false"`
	Tenants           []TenantStatus  `json:"tenants" doc:"State of the tenants, sorted by name." nullable:"false"`
	Unattributed      []Drop          `json:"unattributed" doc:"Packets dropped before it was known whose they were, by reason." nullable:"false"`
	LeftToStack       uint64          `json:"leftToStack" doc:"How many of the unattributed packets were no tunnel packets of a known virtual subnet, so that the machine's own network stack had them."`
	GatewayDrops      []Drop          `json:"gatewayDrops" doc:"Packets that the rules round the compartments dropped, of all tenants together, by reason as docs/gateway-drop-reasons.md has them; reasons that never occurred are left out." nullable:"false"`
}

// Version is what GET /v1/version answers.
type Version struct {
	Version string `json:"version" doc:"Release." example:"0.1.0"`
	Commit  string `json:"commit,omitempty" doc:"Commit it was built from."`
	Go      string `json:"go" doc:"Go release it was built with." example:"go1.26.0"`
	API     string `json:"api" doc:"Version of this interface." example:"v1"`
	Kernel  string `json:"kernel,omitempty" doc:"Kernel release of the machine."`
}

// Compartment is the observed state of a tenant's compartment.
type Compartment struct {
	Tenant     string   `json:"tenant" doc:"Tenant it belongs to."`
	RDID       string   `json:"rdid" doc:"Its routing domain ID."`
	Namespace  string   `json:"namespace" doc:"Name of the network namespace, as ip netns has it." example:"hnv-contoso"`
	VSID       uint32   `json:"vsid" doc:"Gateway subnet." example:"5000"`
	Interface  string   `json:"interface" doc:"Overlay interface inside the compartment." example:"wnv5000"`
	MAC        string   `json:"mac" doc:"MAC address of the overlay interface."`
	CAs        []string `json:"cas" doc:"The compartment's customer addresses." nullable:"false"`
	MTU        int      `json:"mtu,omitempty" doc:"MTU of the overlay interface in bytes; 0 while not known."`
	Uplink     string   `json:"uplink" doc:"Name of the uplink."`
	External   []string `json:"external" doc:"External addresses, ADDR or ADDR:LO-HI." nullable:"false"`
	Phase      Phase    `json:"phase" doc:"The state in one word." enum:"Ready,Pending,Degraded,Error"`
	Message    string   `json:"message,omitempty" doc:"What is wrong and what to do; empty when Ready."`
	Path       string   `json:"path,omitempty" doc:"Who forwards what arrives there: ebpf, the programs in the kernel, or go, gatewayd itself; empty while nobody does." example:"ebpf"`
	PathReason string   `json:"pathReason,omitempty" doc:"Why gatewayd does; empty where the programs do."`
}

// CompartmentList is what GET /v1/compartments answers.
type CompartmentList struct {
	Items []Compartment `json:"items" doc:"The compartments, sorted by tenant." nullable:"false"`
}

// NATSession is one tracked connection of a tenant.
type NATSession struct {
	Proto     string  `json:"proto" doc:"Transport protocol: tcp, udp, icmp, icmpv6 or the number." example:"tcp"`
	Direction string  `json:"direction" doc:"Who began, towards whom: out (a VM to the outside), in (the outside to a static mapping), hairpin (a VM to a mapping of its own tenant), local (someone to the compartment itself)." enum:"out,in,hairpin,local"`
	Inside    string  `json:"inside" doc:"The VM's end, CA:PORT; for ICMP the port is the identifier." example:"10.1.1.11:50312"`
	External  string  `json:"external" doc:"What the outside sees of it, ADDR:PORT." example:"203.0.113.10:50312"`
	Remote    string  `json:"remote" doc:"The other end, ADDR:PORT." example:"198.51.100.20:80"`
	State     string  `json:"state,omitempty" doc:"State of a TCP connection." example:"ESTABLISHED"`
	Timeout   uint32  `json:"timeout" doc:"Seconds until it is forgotten if nothing more comes."`
	Out       Traffic `json:"out" doc:"Towards the outside; bytes of the IP packets. Zero where the kernel does not account."`
	In        Traffic `json:"in" doc:"Towards the VM; likewise."`
}

// NATSessionList is what GET /v1/tenants/{name}/nat-sessions answers.
type NATSessionList struct {
	Items     []NATSession `json:"items" doc:"The sessions, at most as many as asked for." nullable:"false"`
	Truncated bool         `json:"truncated" doc:"True when there are more."`
}
