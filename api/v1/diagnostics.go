package v1

// NextHop tells where packets from a customer address to another one go, by the
// records and routes that this machine has.
type NextHop struct {
	Tenant        string   `json:"tenant" doc:"Tenant of the source."`
	RDID          string   `json:"rdid" doc:"Its routing domain."`
	Reason        string   `json:"reason,omitempty" doc:"Why there is no way, as docs/drop-reasons.md names it; left out where there is one."`
	Meaning       string   `json:"meaning,omitempty" doc:"The reason in a sentence."`
	Routed        bool     `json:"routed" doc:"The distributed router takes the packet; otherwise it is bridged inside the virtual subnet."`
	Router        bool     `json:"router,omitempty" doc:"The destination is an address of the distributed router, which answers on the source's machine: there is no next hop."`
	Match         string   `json:"match,omitempty" doc:"The prefix that leads to the destination." example:"10.1.2.0/24"`
	CustomerRoute bool     `json:"customerRoute,omitempty" doc:"The prefix is a customer route's and not a virtual subnet's."`
	Wildcard      bool     `json:"wildcard,omitempty" doc:"No route leads to the destination: a record of type gateway-wildcard takes it."`
	NextHop       string   `json:"nextHop,omitempty" doc:"Customer address whose lookup record the packet goes by: the destination's, or that of the next hop towards it." example:"10.1.2.11"`
	Equal         []string `json:"equal,omitempty" doc:"The equal next hops that flows spread over, where there are several; nextHop is the one that a flow without ports takes."`
	VSID          uint32   `json:"vsid,omitempty" doc:"Virtual subnet in which the packet travels." example:"5002"`
	SentTo        string   `json:"sentTo,omitempty" doc:"MAC address that the source sends the packet to."`
	SrcMAC        string   `json:"srcMAC,omitempty" doc:"Source MAC address with which the packet arrives."`
	DstMAC        string   `json:"dstMAC,omitempty" doc:"Destination MAC address with which it arrives."`
	SrcPAs        []string `json:"srcPAs" doc:"Provider addresses of the source's host; flows spread over several." nullable:"false"`
	DstPAs        []string `json:"dstPAs" doc:"Provider addresses of the next hop's host; likewise." nullable:"false"`
	Rule          string   `json:"rule,omitempty" doc:"How the packet gets there." enum:"nvgre,vxlan,rewrite"`
	Type          string   `json:"type,omitempty" doc:"Type of the lookup record." enum:"static,dynamic,l2only,gateway-wildcard"`
	Local         bool     `json:"local" doc:"The next hop is at a provider address of this machine."`
	Compartment   bool     `json:"compartment,omitempty" doc:"The next hop is the tenant's compartment on its gateway."`
}

// PingRequest asks for one echo in the name of a station of this machine.
type PingRequest struct {
	VSID    uint32 `json:"vsid" doc:"Virtual subnet of the source." minimum:"4096" maximum:"16777214" example:"5001"`
	SrcCA   string `json:"srcCA" doc:"Customer address in whose name is asked; its port must be on this machine." example:"10.1.1.11"`
	DstCA   string `json:"dstCA" doc:"Customer address that is asked." example:"10.1.2.11"`
	Seq     uint16 `json:"seq,omitempty" doc:"Sequence number."`
	Size    int    `json:"size,omitempty" doc:"Bytes of data, 40 at least. Left out: 56."`
	DF      bool   `json:"df,omitempty" doc:"The packet may not be fragmented on its way."`
	Guest   bool   `json:"guest,omitempty" doc:"The destination's guest shall answer, and not the dataplane of its host in its place."`
	Timeout int    `json:"timeout,omitempty" doc:"Milliseconds for which an answer is waited for, 20000 at most. Left out: 1000."`
}

// ProviderPingRequest asks for one echo between provider addresses.
type ProviderPingRequest struct {
	To      string `json:"to" doc:"Provider address that is asked." example:"192.168.2.10"`
	From    string `json:"from,omitempty" doc:"Provider address of this machine to ask from. Left out: one that works, of the same network if there is one."`
	Size    int    `json:"size,omitempty" doc:"Bytes of data. Left out: 56."`
	DF      bool   `json:"df,omitempty" doc:"The packet may not be fragmented on its way."`
	Timeout int    `json:"timeout,omitempty" doc:"Milliseconds for which an answer is waited for, 20000 at most. Left out: 1000."`
}

// What became of an echo.
const (
	PingReplied = "reply"   // the answer came
	PingError   = "error"   // an ICMP error came instead
	PingDropped = "dropped" // this machine dropped it, or the answer
	PingLost    = "lost"    // nothing came in time
)

// PingReply tells what became of one echo.
type PingReply struct {
	Seq     uint16 `json:"seq" doc:"Sequence number of the request."`
	Outcome string `json:"outcome" doc:"What became of the request: the answer came, an ICMP error came, this machine dropped the request or the answer, or nothing came in time." enum:"reply,error,dropped,lost"`
	From    string `json:"from,omitempty" doc:"Who answered, or sent the error."`
	By      string `json:"by,omitempty" doc:"Of an answer to a customer address: whose it was. That of the destination's dataplane says nothing about its guest." enum:"dataplane,guest,router"`
	RTT     int64  `json:"rttNanoseconds,omitempty" doc:"Nanoseconds from the request to the answer."`
	Bytes   int    `json:"bytes,omitempty" doc:"Bytes of the answer: ICMP header and data."`
	TTL     int    `json:"ttl,omitempty" doc:"TTL or hop limit that the answer came with."`
	MTU     int    `json:"mtu,omitempty" doc:"Bytes that a packet may have, where it was said that this one was too big."`
	Reason  string `json:"reason,omitempty" doc:"Of what was dropped: why, as docs/drop-reasons.md names it."`
	Port    string `json:"port,omitempty" doc:"Of what was dropped: the port whose layers had it."`
	Back    bool   `json:"back,omitempty" doc:"It was the answer that was dropped."`
	Message string `json:"message,omitempty" doc:"What is wrong, in a sentence; empty for an answer."`
}

// TraceRequest is a packet to be taken through the layers for show.
type TraceRequest struct {
	Port       string       `json:"port,omitempty" doc:"Port that sends the packet: its interface, or compartment/TENANT. Of a described packet it may be left out: then it is sent by the port of its source, if that is on this machine, and comes from the fabric if not." example:"vm1"`
	FromFabric bool         `json:"fromFabric,omitempty" doc:"The packet comes from the fabric."`
	NewFlow    bool         `json:"newFlow,omitempty" doc:"Take the packet for the first one of its flow, whatever flows are known."`
	Frame      []byte       `json:"frame,omitempty" doc:"The packet itself: an Ethernet frame of a port, or an IP packet of the fabric."`
	Packet     *TracePacket `json:"packet,omitempty" doc:"Or what one is to be made of."`
}

// TracePacket describes a packet. What is left out becomes what it is of a packet
// that its sender, or the sender's host, makes by the records and routes that
// this machine has.
type TracePacket struct {
	VSID     uint32 `json:"vsid,omitempty" doc:"Virtual subnet of the source. Left out: the port's." example:"5001"`
	SrcCA    string `json:"srcCA" doc:"Customer address it is from." example:"10.1.1.11"`
	DstCA    string `json:"dstCA" doc:"Customer address it is to; a group's too." example:"10.1.2.11"`
	SrcMAC   string `json:"srcMAC,omitempty" doc:"MAC address it is from."`
	DstMAC   string `json:"dstMAC,omitempty" doc:"MAC address it is to."`
	SrcPA    string `json:"srcPA,omitempty" doc:"Provider address it comes from over the fabric."`
	DstPA    string `json:"dstPA,omitempty" doc:"Provider address it is sent to over the fabric."`
	Ask      bool   `json:"ask,omitempty" doc:"It asks for the MAC address of dstCA, by ARP or neighbor discovery; what follows is of no account then."`
	Proto    string `json:"proto,omitempty" doc:"Protocol: tcp, udp, icmp, icmpv6 or its number. Left out: icmp, or icmpv6." example:"tcp"`
	SrcPort  uint16 `json:"srcPort,omitempty" doc:"Source port; of ICMP, the identifier."`
	DstPort  uint16 `json:"dstPort,omitempty" doc:"Destination port."`
	TCPFlags string `json:"tcpFlags,omitempty" doc:"TCP flags, separated by commas. Left out: syn." example:"syn,ack"`
	ICMPType *uint8 `json:"icmpType,omitempty" doc:"Type of ICMP. Left out: echo request."`
	ICMPCode uint8  `json:"icmpCode,omitempty" doc:"Code of ICMP."`
	Payload  int    `json:"payload,omitempty" doc:"Bytes behind the headers."`
	TTL      uint8  `json:"ttl,omitempty" doc:"TTL or hop limit. Left out: 64."`
	DSCP     uint8  `json:"dscp,omitempty" doc:"DSCP, 0 to 63."`
	DF       bool   `json:"df,omitempty" doc:"The packet may not be fragmented."`
}

// Trace is what would become of a packet now. Nothing was sent, counted or
// remembered on its account.
type Trace struct {
	From    string        `json:"from" doc:"Port that sent the packet, or fabric."`
	Tenant  string        `json:"tenant,omitempty" doc:"Tenant whose it is, if that was found."`
	RDID    string        `json:"rdid,omitempty" doc:"Its routing domain."`
	VSID    uint32        `json:"vsid,omitempty" doc:"Virtual subnet it came by."`
	Frame   []byte        `json:"frame" doc:"The packet as it went in."`
	Steps   []TraceStep   `json:"steps" doc:"What was found and decided, in order." nullable:"false"`
	Outputs []TraceOutput `json:"outputs" doc:"What would have left, in order." nullable:"false"`
	Verdict string        `json:"verdict" doc:"What becomes of it: sent to the fabric, delivered to ports of this machine, answered by the dataplane, taken without any packet, or dropped." enum:"sent,delivered,answered,taken,dropped"`
	Reason  string        `json:"reason,omitempty" doc:"Why it is dropped, as docs/drop-reasons.md names it."`
	Meaning string        `json:"meaning,omitempty" doc:"The reason in a sentence."`
}

// TraceStep is one thing that was found or decided about a packet.
type TraceStep struct {
	Stage   string `json:"stage" doc:"Where on its way." enum:"received,decapsulate,flow,source,destination,layer,action,rewrite,route,bridge,forward,output,drop"`
	At      string `json:"at" doc:"Port whose layers have the packet, or fabric."`
	Layer   string `json:"layer,omitempty" doc:"Of stage layer: the layer."`
	Group   string `json:"group,omitempty" doc:"Likewise: the group of rules."`
	Rule    string `json:"rule,omitempty" doc:"Likewise: the rule that matched, if one did."`
	Verdict string `json:"verdict,omitempty" doc:"In a word or two." example:"hit"`
	Detail  string `json:"detail" doc:"In a sentence."`
}

// TraceOutput is a packet that would have left.
type TraceOutput struct {
	To      string `json:"to" doc:"Port it goes to, or fabric."`
	Frame   []byte `json:"frame" doc:"The packet: an Ethernet frame to a port, an IP packet to the fabric."`
	Summary string `json:"summary" doc:"What it is, in words."`
}

// CaptureRequest says which packets a capture is to hold, and how many. A packet
// must fit all that is said.
type CaptureRequest struct {
	Tenant    string   `json:"tenant,omitempty" doc:"Only packets of this tenant." example:"contoso"`
	VSID      uint32   `json:"vsid,omitempty" doc:"Only packets of this virtual subnet." example:"5001"`
	CA        string   `json:"ca,omitempty" doc:"Only packets from or to this customer address, or inside this prefix." example:"10.1.1.11"`
	PA        string   `json:"pa,omitempty" doc:"Only packets from or to this provider address, or inside this prefix." example:"192.168.1.10"`
	Proto     string   `json:"proto,omitempty" doc:"Only packets of this protocol: tcp, udp, icmp, icmpv6, arp or a number."`
	Port      uint16   `json:"port,omitempty" doc:"Only packets from or to this TCP or UDP port."`
	Points    []string `json:"points,omitempty" doc:"Only packets at these points: fabric-in, fabric-out, port-in, port-out, drop."`
	DropsOnly bool     `json:"dropsOnly,omitempty" doc:"Only packets that are dropped."`
	Reason    string   `json:"reason,omitempty" doc:"Only packets that are dropped for this reason." example:"acl-denied"`
	SnapLen   int      `json:"snapLen,omitempty" doc:"Bytes that are kept of a packet. Left out: 2048."`
	Packets   uint64   `json:"packets,omitempty" doc:"The capture ends after so many packets. Left out: whenever its time or its size is over."`
	Seconds   int      `json:"seconds,omitempty" doc:"The capture ends after so many seconds, 3600 at most. Left out: 60."`
}

// The bounds of captures.
const (
	DefaultCaptureSeconds = 60
	MaxCaptureSeconds     = 3600
	MaxCaptureBytes       = 1 << 30
)

// PortInspection is all that decides about a port's packets, with what it has
// counted.
type PortInspection struct {
	Port    string           `json:"port" doc:"The port: its interface, or compartment/TENANT."`
	Tenant  string           `json:"tenant" doc:"Tenant whose it is."`
	RDID    string           `json:"rdid" doc:"Its routing domain."`
	VSID    uint32           `json:"vsid" doc:"Virtual subnet it is in."`
	MAC     string           `json:"mac" doc:"MAC address of its station."`
	Kind    string           `json:"kind" doc:"What is behind it." enum:"vm,compartment"`
	MTU     int              `json:"mtu,omitempty" doc:"Bytes of the greatest IP packet that it takes; 0 or left out: any."`
	ACL     string           `json:"acl,omitempty" doc:"Its own ACL, if it names one."`
	Up      bool             `json:"up" doc:"Whether its tenant and virtual subnet are there."`
	Layers  []LayerState     `json:"layers" doc:"Its layers, in the order in which packets that it sends meet them." nullable:"false"`
	Meters  []MeterState     `json:"meters" doc:"The rates that limit it." nullable:"false"`
	Learned []LearnedAddress `json:"learned" doc:"The customer addresses that its station was found to have." nullable:"false"`
	Table   FlowTableState   `json:"flowTable" doc:"Its unified flow table."`
	Flows   []FlowState      `json:"flows" doc:"The flows that it knows of, the busiest first, at most as many as asked for." nullable:"false"`
}

// LayerState is a layer of a port.
type LayerState struct {
	Name     string       `json:"name" doc:"Name of the layer." example:"acl"`
	Priority int          `json:"priority" doc:"Ascending for what the port sends, descending for what it gets."`
	Groups   []GroupState `json:"groups" doc:"Its groups of rules." nullable:"false"`
}

// GroupState is a group of rules, of which at most one matches a packet.
type GroupState struct {
	Name      string      `json:"name" doc:"Name of the group." example:"port web"`
	Priority  int         `json:"priority" doc:"Ascending in both directions."`
	Direction string      `json:"direction" doc:"As the port's station sees it." enum:"inbound,outbound"`
	Family    string      `json:"family" doc:"The packets that it has a say in." enum:"any,ipv4,ipv6"`
	Rules     []RuleState `json:"rules" doc:"Its rules: the first one that matches counts." nullable:"false"`
}

// RuleState is a rule, with what it has matched.
type RuleState struct {
	ID       string `json:"id" doc:"Name of the rule in its group." example:"110"`
	Priority uint16 `json:"priority" doc:"Lowest first."`
	Match    string `json:"match" doc:"What it matches, in words."`
	Action   string `json:"action" doc:"What it does, in words." example:"allow"`
	Packets  uint64 `json:"packets" doc:"Packets of the port that it has matched, those of established flows included."`
	Bytes    uint64 `json:"bytes" doc:"Their bytes."`
}

// MeterState is a rate that limits a port.
type MeterState struct {
	Direction string `json:"direction" doc:"As the port's station sees it." enum:"inbound,outbound"`
	Of        string `json:"of" doc:"Whose rate it is." enum:"port,tenant"`
	Kbps      uint64 `json:"kbps" doc:"1000 bit/s."`
	Burst     int    `json:"burst" doc:"Bytes that may come at once."`
}

// LearnedAddress is a customer address that a station was found to have.
type LearnedAddress struct {
	CA     string `json:"ca" doc:"The customer address."`
	Since  string `json:"since" doc:"When it was learned (RFC 3339)."`
	Seen   string `json:"seen" doc:"When the station last showed that it has it."`
	Leased string `json:"leasedUntil,omitempty" doc:"End of its DHCP lease, if it has one."`
}

// FlowTableState counts what happened to a port's flows.
type FlowTableState struct {
	Flows    int    `json:"flows" doc:"Flows that there are; both directions of one count once where the port's lists deny anything, and twice otherwise."`
	Hits     uint64 `json:"hits" doc:"Packets that took the way of a flow that was known, with those that it began with."`
	Misses   uint64 `json:"misses" doc:"Look-ups that found none."`
	Inserted uint64 `json:"inserted" doc:"Flows that were added."`
	Evicted  uint64 `json:"evicted" doc:"Flows that ended, or made room for others."`
	Full     uint64 `json:"full" doc:"Flows that found no room."`
}

// FlowState is a flow that a port knows of.
type FlowState struct {
	Direction string   `json:"direction" doc:"Of the packet that it began with, as the port's station sees it." enum:"inbound,outbound"`
	Proto     string   `json:"proto" doc:"Protocol, and what kind of packets of it: tcp, udp, echo-request, icmp, fragment or a number."`
	Src       string   `json:"src" doc:"Who began it, CA:PORT; of echoes, the port is the identifier."`
	Dst       string   `json:"dst" doc:"To whom, CA:PORT."`
	State     string   `json:"state" doc:"How far it has come." enum:"new,replied,established,half-closed,closing"`
	Idle      int      `json:"idleSeconds" doc:"Seconds since its last packet."`
	Expires   int      `json:"expiresSeconds" doc:"Seconds until it is forgotten if nothing more comes."`
	Sent      Traffic  `json:"sent" doc:"By who began it."`
	Replied   *Traffic `json:"replied,omitempty" doc:"By the other end. Left out where replies are a flow of their own."`
	Action    string   `json:"action" doc:"What is done with its packets, in words."`
	Rules     []string `json:"rules" doc:"The rules that decided, LAYER/GROUP/RULE." nullable:"false"`
}

// LayerCounters sums up what a tenant's packets met in a layer of its ports.
type LayerCounters struct {
	Layer   string  `json:"layer" doc:"Name of the layer." example:"acl"`
	Matched Traffic `json:"matched" doc:"Packets that rules of the layer matched; one may match several."`
	Dropped uint64  `json:"dropped" doc:"Packets that its rules dropped."`
}
