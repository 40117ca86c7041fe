// Code generated from dataplane/drop/reasons.txt by reasongen; DO NOT EDIT.

package drop

// The reasons.
const (
	None Reason = 0 // not dropped

	// Outer headers: what arrived from the fabric.

	// OuterMalformed: The outer packet is too short for its IP header, or the version or header length is wrong.
	OuterMalformed Reason = 1
	// OuterLength: The outer total length exceeds what arrived, or has no room for the tunnel header.
	OuterLength Reason = 2
	// OuterFragment: The outer packet is a fragment; tunnel packets must not be fragmented.
	OuterFragment Reason = 3
	// OuterChecksum: The outer IPv4 header checksum is wrong.
	OuterChecksum Reason = 4
	// OuterProtocol: The outer packet is neither GRE nor UDP.
	OuterProtocol Reason = 5
	// OuterNotOurs: The outer destination is not a provider address of this machine.
	OuterNotOurs Reason = 6
	// GREVersion: The GRE version is not 0.
	GREVersion Reason = 7
	// GREFlags: The GRE checksum or sequence number is present.
	GREFlags Reason = 8
	// GREReserved: A GRE bit is set that a receiver must refuse: 1 (routing), 4 or 5.
	GREReserved Reason = 9
	// GRENoKey: The GRE key, which carries the VSID, is absent.
	GRENoKey Reason = 10
	// GREProtocol: The GRE payload is not an Ethernet frame (0x6558).
	GREProtocol Reason = 11
	// UDPPort: The UDP destination port is not VXLAN's 4789.
	UDPPort Reason = 12
	// UDPLength: The UDP length does not equal the outer payload.
	UDPLength Reason = 13
	// VXLANNoVNI: The VXLAN I flag is clear: the VNI is not valid.
	VXLANNoVNI Reason = 14
	// VSIDReserved: The VSID is one that no subnet may have: 0 to 4095 or 16777215.
	VSIDReserved Reason = 15

	// Inner frame: what the tenant sent.

	// InnerTruncated: The inner frame ends within a header, or before the length its IP header states.
	InnerTruncated Reason = 16
	// InnerMalformed: The inner IP or transport header contradicts itself.
	InnerMalformed Reason = 17
	// InnerChecksum: The inner IPv4 header checksum is wrong.
	InnerChecksum Reason = 18
	// InnerVLAN: The inner frame carries a VLAN tag.
	InnerVLAN Reason = 19
	// InnerSourceMAC: The inner source MAC address is zero or a group address.
	InnerSourceMAC Reason = 20

	// Isolation: who may send what.

	// VSIDUnknown: No tenant has this VSID.
	VSIDUnknown Reason = 21
	// SourcePAUnknown: The outer source is not the provider address of any record in the routing domain.
	SourcePAUnknown Reason = 22
	// SourcePAMismatch: The outer source is not the provider address of the inner source's record.
	SourcePAMismatch Reason = 23
	// SourceMACMismatch: The source MAC address is not that of the source's record or port.
	SourceMACMismatch Reason = 24
	// SourceCAUnknown: The source address has no record and no route in the routing domain.
	SourceCAUnknown Reason = 25
	// SourceCASpoofed: The source address belongs to another port or host.
	SourceCASpoofed Reason = 26
	// WrongPort: The local port with the destination MAC address does not own the destination address.
	WrongPort Reason = 27
	// NotLocal: A tunnel packet is for a destination that is not on this machine; it is never sent on to another.
	NotLocal Reason = 28

	// Forwarding.

	// DestinationUnknown: The destination is in a subnet of the routing domain and has no record.
	DestinationUnknown Reason = 29
	// NoRoute: The routing domain has no route to the destination.
	NoRoute Reason = 30
	// TTLExpired: The TTL or hop limit would reach zero here.
	TTLExpired Reason = 31
	// TooBig: The packet exceeds the MTU and may not be fragmented.
	TooBig Reason = 32
	// BroadcastUnsupported: (retired) Broadcast or multicast that is not ARP or neighbor discovery.
	BroadcastUnsupported Reason = 33
	// EtherTypeUnsupported: The frame is neither IPv4, IPv6 nor ARP.
	EtherTypeUnsupported Reason = 34
	// RuleUnsupported: The record's encapsulation rule cannot be carried out.
	RuleUnsupported Reason = 35
	// ChecksumUnsupported: The partial checksum points outside the frame, or into headers that are checked.
	ChecksumUnsupported Reason = 36
	// GSOUnsupported: The segmentation request does not fit the frame.
	GSOUnsupported Reason = 37

	// ARP and neighbor discovery.

	// ARPMalformed: The ARP packet is not one for IPv4 over Ethernet, or contradicts itself.
	ARPMalformed Reason = 38
	// ARPUnknown: The ARP request asks for an address that has no record.
	ARPUnknown Reason = 39
	// ARPSpoofed: The ARP sender is not what its record or port says.
	ARPSpoofed Reason = 40
	// ARPIgnored: The ARP packet needs no answer: a probe or announcement of the sender's own address, or a reply.
	ARPIgnored Reason = 41
	// NDMalformed: The neighbor discovery message fails the checks every receiver must make.
	NDMalformed Reason = 42
	// NDUnknown: The neighbor solicitation asks for an address that has no record.
	NDUnknown Reason = 43
	// NDSpoofed: The neighbor discovery sender is not what its record or port says.
	NDSpoofed Reason = 44
	// NDIgnored: The neighbor discovery message needs no answer: duplicate address detection of the sender's own address, or an advertisement.
	NDIgnored Reason = 45

	// Ports and queues.

	// NoPort: The port of the destination is not plugged in.
	NoPort Reason = 46
	// PortDown: The port took no packets: its interface is down.
	PortDown Reason = 47
	// QueueFull: The queue of the port is full.
	QueueFull Reason = 48
	// TransmitError: The kernel refused to send the packet.
	TransmitError Reason = 49
	// RateLimited: The tenant's share of the slow path is used up.
	RateLimited Reason = 50
	// NoBuffer: The packet does not fit into a buffer, or none was free.
	NoBuffer Reason = 51
	// EchoMalformed: The echo request to the distributed router cannot be answered: its checksum is wrong, or it has options.
	EchoMalformed Reason = 52
	// ECNInvalid: The fabric marked congestion on a packet whose sender does not understand such marks.
	ECNInvalid Reason = 53

	// Added by the receive and port paths.

	// OuterSourceOurs: The outer source is a provider address of this machine: forged, or our own packet come back.
	OuterSourceOurs Reason = 54
	// EncapMismatch: The packet came by another encapsulation than the records of its source and destination prescribe.
	EncapMismatch Reason = 55
	// SourceMartian: The inner source is no station's address: loopback, multicast, unspecified or reserved.
	SourceMartian Reason = 56
	// DestinationMartian: The inner destination is an address that no packet may be sent to: loopback, unspecified or reserved.
	DestinationMartian Reason = 57
	// SamePort: The packet would leave by the port that it came in by.
	SamePort Reason = 58
	// RouterAddress: The packet is for the distributed router itself, which answers echo requests only.
	RouterAddress Reason = 59
	// NoSourcePA: No provider address of this machine is of the address family that the destination's is.
	NoSourcePA Reason = 60

	// Layers and flows.

	// ACLDenied: An access control list of the port or of its virtual subnet denies the packet, or allows it nowhere.
	ACLDenied Reason = 61
	// RateExceeded: The port or the tenant has used up its bandwidth.
	RateExceeded Reason = 62
	// FlowTableFull: The port has as many flows as it may have, and the packet would begin another one.
	FlowTableFull Reason = 63
	// FragmentUnmatched: A fragment without ports whose first fragment was not let pass, and that no rule allows whatever its ports are.
	FragmentUnmatched Reason = 64
	// StormLimited: The tenant's ports send more broadcast and multicast than they may.
	StormLimited Reason = 65
	// NATPoolExhausted: The NAT pool has no address and port left for a new flow, or the packet is one that no flow can begin with.
	NATPoolExhausted Reason = 66

	// Broadcast and multicast.

	// GroupMismatch: The frame is for several stations by its MAC address or its IP address, and not by the other.
	GroupMismatch Reason = 67
	// NoStation: Nobody else is in the virtual subnet of a broadcast or multicast packet.
	NoStation Reason = 68
	// DHCPRogue: The sender answers DHCP clients and is not the subnet's DHCP server.
	DHCPRogue Reason = 69

	// IP rewrite.

	// RewriteImpossible: The packet cannot travel rewritten: it is not from one rewritten address to another, or has options or extension headers that routers of the fabric would act upon.
	RewriteImpossible Reason = 70
	// RewriteUnknown: A packet to an address that stands for a VM comes from none that does, and is no tunnel packet or error about one of the VM's flows.
	RewriteUnknown Reason = 71

	// Layers of library users.

	// Punted: A rule handed the packet over to the reader of a queue, who does with it what there is to do.
	Punted Reason = 72
	// PuntUnread: A rule hands the packet over to a queue that nobody reads, or whose reader took no more.
	PuntUnread Reason = 73

	// Count is one more than the greatest reason.
	Count = 74
)

var table = [Count]struct{ name, meaning, source string }{
	None:                 {name: "none", meaning: "Not dropped."},
	OuterMalformed:       {"outer-malformed", "The outer packet is too short for its IP header, or the version or header length is wrong.", "RFC 791 section 3.1, RFC 8200 section 3"},
	OuterLength:          {"outer-length", "The outer total length exceeds what arrived, or has no room for the tunnel header.", "RFC 791 section 3.1, RFC 8200 section 3"},
	OuterFragment:        {"outer-fragment", "The outer packet is a fragment; tunnel packets must not be fragmented.", "RFC 7348 section 4.3"},
	OuterChecksum:        {"outer-checksum", "The outer IPv4 header checksum is wrong.", "RFC 1812 section 5.2.2"},
	OuterProtocol:        {"outer-protocol", "The outer packet is neither GRE nor UDP.", "RFC 7637 section 3.1, RFC 7348 section 5"},
	OuterNotOurs:         {"outer-not-ours", "The outer destination is not a provider address of this machine.", "RFC 1812 section 5.2.3"},
	GREVersion:           {"gre-version", "The GRE version is not 0.", "RFC 2784 section 2.3.1"},
	GREFlags:             {"gre-flags", "The GRE checksum or sequence number is present.", "RFC 7637 section 3.2"},
	GREReserved:          {"gre-reserved", "A GRE bit is set that a receiver must refuse: 1 (routing), 4 or 5.", "RFC 2784 section 2.3"},
	GRENoKey:             {"gre-no-key", "The GRE key, which carries the VSID, is absent.", "RFC 7637 section 3.2"},
	GREProtocol:          {"gre-protocol", "The GRE payload is not an Ethernet frame (0x6558).", "RFC 7637 section 3.2"},
	UDPPort:              {"udp-port", "The UDP destination port is not VXLAN's 4789.", "RFC 7348 section 5"},
	UDPLength:            {"udp-length", "The UDP length does not equal the outer payload.", "RFC 768"},
	VXLANNoVNI:           {"vxlan-no-vni", "The VXLAN I flag is clear: the VNI is not valid.", "RFC 7348 section 5"},
	VSIDReserved:         {"vsid-reserved", "The VSID is one that no subnet may have: 0 to 4095 or 16777215.", "RFC 7637 section 3.4"},
	InnerTruncated:       {"inner-truncated", "The inner frame ends within a header, or before the length its IP header states.", "IEEE 802.3 section 3"},
	InnerMalformed:       {"inner-malformed", "The inner IP or transport header contradicts itself.", "RFC 791 section 3.1, RFC 8200 section 3"},
	InnerChecksum:        {"inner-checksum", "The inner IPv4 header checksum is wrong.", "RFC 1812 section 5.2.2"},
	InnerVLAN:            {"inner-vlan", "The inner frame carries a VLAN tag.", "RFC 7637 section 3.3, RFC 7348 section 6.1"},
	InnerSourceMAC:       {"inner-source-mac", "The inner source MAC address is zero or a group address.", "IEEE 802 section 8.2"},
	VSIDUnknown:          {"vsid-unknown", "No tenant has this VSID.", "RFC 7637 section 3.2"},
	SourcePAUnknown:      {"source-pa-unknown", "The outer source is not the provider address of any record in the routing domain.", "RFC 7637 section 5"},
	SourcePAMismatch:     {"source-pa-mismatch", "The outer source is not the provider address of the inner source's record.", "RFC 7637 section 5"},
	SourceMACMismatch:    {"source-mac-mismatch", "The source MAC address is not that of the source's record or port.", "RFC 7637 section 5"},
	SourceCAUnknown:      {"source-ca-unknown", "The source address has no record and no route in the routing domain.", "RFC 7637 section 5"},
	SourceCASpoofed:      {"source-ca-spoofed", "The source address belongs to another port or host.", "RFC 7637 section 5"},
	WrongPort:            {"wrong-port", "The local port with the destination MAC address does not own the destination address.", "RFC 7637 section 5"},
	NotLocal:             {"not-local", "A tunnel packet is for a destination that is not on this machine; it is never sent on to another.", "RFC 7637 section 4.3"},
	DestinationUnknown:   {"destination-unknown", "The destination is in a subnet of the routing domain and has no record.", "RFC 7637 section 4.3"},
	NoRoute:              {"no-route", "The routing domain has no route to the destination.", "RFC 1812 section 5.2.4"},
	TTLExpired:           {"ttl-expired", "The TTL or hop limit would reach zero here.", "RFC 1812 section 5.3.1"},
	TooBig:               {"too-big", "The packet exceeds the MTU and may not be fragmented.", "RFC 1191, RFC 8201"},
	BroadcastUnsupported: {"broadcast-unsupported", "(retired) Broadcast or multicast that is not ARP or neighbor discovery.", "RFC 7637 section 4.2"},
	EtherTypeUnsupported: {"ethertype-unsupported", "The frame is neither IPv4, IPv6 nor ARP.", "IEEE 802.3 section 3.2.6"},
	RuleUnsupported:      {"rule-unsupported", "The record's encapsulation rule cannot be carried out.", ""},
	ChecksumUnsupported:  {"checksum-unsupported", "The partial checksum points outside the frame, or into headers that are checked.", "virtio 1.2 section 5.1.6"},
	GSOUnsupported:       {"gso-unsupported", "The segmentation request does not fit the frame.", "virtio 1.2 section 5.1.6"},
	ARPMalformed:         {"arp-malformed", "The ARP packet is not one for IPv4 over Ethernet, or contradicts itself.", "RFC 826"},
	ARPUnknown:           {"arp-unknown", "The ARP request asks for an address that has no record.", "RFC 826"},
	ARPSpoofed:           {"arp-spoofed", "The ARP sender is not what its record or port says.", "RFC 826"},
	ARPIgnored:           {"arp-ignored", "The ARP packet needs no answer: a probe or announcement of the sender's own address, or a reply.", "RFC 5227 section 2.1"},
	NDMalformed:          {"nd-malformed", "The neighbor discovery message fails the checks every receiver must make.", "RFC 4861 section 7.1"},
	NDUnknown:            {"nd-unknown", "The neighbor solicitation asks for an address that has no record.", "RFC 4861 section 7.2"},
	NDSpoofed:            {"nd-spoofed", "The neighbor discovery sender is not what its record or port says.", "RFC 4861 section 11"},
	NDIgnored:            {"nd-ignored", "The neighbor discovery message needs no answer: duplicate address detection of the sender's own address, or an advertisement.", "RFC 4862 section 5.4"},
	NoPort:               {"no-port", "The port of the destination is not plugged in.", ""},
	PortDown:             {"port-down", "The port took no packets: its interface is down.", ""},
	QueueFull:            {"queue-full", "The queue of the port is full.", ""},
	TransmitError:        {"transmit-error", "The kernel refused to send the packet.", ""},
	RateLimited:          {"rate-limited", "The tenant's share of the slow path is used up.", "RFC 1812 section 4.3.2.8"},
	NoBuffer:             {"no-buffer", "The packet does not fit into a buffer, or none was free.", ""},
	EchoMalformed:        {"echo-malformed", "The echo request to the distributed router cannot be answered: its checksum is wrong, or it has options.", "RFC 792"},
	ECNInvalid:           {"ecn-invalid", "The fabric marked congestion on a packet whose sender does not understand such marks.", "RFC 6040 section 4.2"},
	OuterSourceOurs:      {"outer-source-ours", "The outer source is a provider address of this machine: forged, or our own packet come back.", "RFC 1812 section 5.3.8"},
	EncapMismatch:        {"encap-mismatch", "The packet came by another encapsulation than the records of its source and destination prescribe.", "RFC 7637 section 5"},
	SourceMartian:        {"source-martian", "The inner source is no station's address: loopback, multicast, unspecified or reserved.", "RFC 1812 section 5.3.7"},
	DestinationMartian:   {"destination-martian", "The inner destination is an address that no packet may be sent to: loopback, unspecified or reserved.", "RFC 1812 section 5.3.7"},
	SamePort:             {"same-port", "The packet would leave by the port that it came in by.", "RFC 1812 section 5.2.7.2"},
	RouterAddress:        {"router-address", "The packet is for the distributed router itself, which answers echo requests only.", "RFC 1812 section 4.3.3.6"},
	NoSourcePA:           {"no-source-pa", "No provider address of this machine is of the address family that the destination's is.", "RFC 7637 section 4.3"},
	ACLDenied:            {"acl-denied", "An access control list of the port or of its virtual subnet denies the packet, or allows it nowhere.", ""},
	RateExceeded:         {"rate-exceeded", "The port or the tenant has used up its bandwidth.", ""},
	FlowTableFull:        {"flow-table-full", "The port has as many flows as it may have, and the packet would begin another one.", ""},
	FragmentUnmatched:    {"fragment-unmatched", "A fragment without ports whose first fragment was not let pass, and that no rule allows whatever its ports are.", "RFC 1858 section 2"},
	StormLimited:         {"storm-limited", "The tenant's ports send more broadcast and multicast than they may.", "RFC 7637 section 4.2"},
	NATPoolExhausted:     {"nat-pool-exhausted", "The NAT pool has no address and port left for a new flow, or the packet is one that no flow can begin with.", "RFC 4787 section 4.1"},
	GroupMismatch:        {"group-mismatch", "The frame is for several stations by its MAC address or its IP address, and not by the other.", "RFC 1122 section 3.3.6"},
	NoStation:            {"no-station", "Nobody else is in the virtual subnet of a broadcast or multicast packet.", "RFC 7637 section 4.2"},
	DHCPRogue:            {"dhcp-rogue", "The sender answers DHCP clients and is not the subnet's DHCP server.", "RFC 7513 section 6"},
	RewriteImpossible:    {"rewrite-impossible", "The packet cannot travel rewritten: it is not from one rewritten address to another, or has options or extension headers that routers of the fabric would act upon.", ""},
	RewriteUnknown:       {"rewrite-unknown", "A packet to an address that stands for a VM comes from none that does, and is no tunnel packet or error about one of the VM's flows.", ""},
	Punted:               {"punted", "A rule handed the packet over to the reader of a queue, who does with it what there is to do.", ""},
	PuntUnread:           {"punt-unread", "A rule hands the packet over to a queue that nobody reads, or whose reader took no more.", ""},
}
