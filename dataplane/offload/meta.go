package offload

// Origin is where a packet came from that was taken to user space.
type Origin uint8

// The origins.
const (
	FromFabric Origin = 1
	FromPort   Origin = 2
)

// The header of packets to user space: bpf/punt.h.
const (
	metaVersion = 1
	queueOdd    = 0
	queueBulk   = 1
)

// action is what becomes of a packet.
type action uint32

const (
	actionPass action = iota + 1
	actionDrop
	actionPunt
	actionPort
	actionFabric
	actionUplink
)

// outcome is what a program did with a packet, for tests.
type outcome struct {
	Action  action
	Reason  int32
	VSID    uint32
	Ifindex uint32
}
