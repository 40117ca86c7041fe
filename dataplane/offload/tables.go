package offload

import (
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/lookup"
)

// layoutVersion names what entries mean and how they are laid out. Whoever changes
// either, here and in bpf/tables.h, makes it another number: maps that an earlier
// process has pinned are not used then.
const layoutVersion = 7

// The entries of the tables, as bpf/tables.h has them.
type (
	// addr is an address in network byte order, IPv4 as ::ffff:a.b.c.d.
	addr [16]byte

	paValue struct {
		Ifindex uint32
		Kind    uint8
		Pad     [3]byte
	}

	subnetValue struct {
		Tenant, Slot uint32
		Wild4, Wild6 uint32
		Rule, Flags  uint8
		Pad          [2]byte
	}

	portValue struct {
		Tenant, VSID, Slot uint32
		MTU                uint32
		Ifindex            uint32
		MAC                [6]byte
		Flags, DSCP        uint8
		Policy             uint32
		Rates              uint32
	}

	stationKey struct {
		VSID uint32
		MAC  [6]byte
		Pad  [2]byte
	}

	recordKey struct {
		Tenant uint32
		CA     addr
	}

	recordValue struct {
		Tenant, VSID uint32
		PA           addr
		Team         uint32
		MAC          [6]byte
		Rule, Flags  uint8
	}

	teamValue struct {
		N, Down uint8
		Pad     [2]byte
		PA      [maxTeam]addr
	}

	hostKey struct {
		Tenant uint32
		PA     addr
	}

	routeKey struct {
		Bits  uint32
		Table uint32
		CA    addr
	}

	hop struct {
		VSID uint32
		CA   addr
	}

	routeValue struct {
		Kind, N uint8
		Pad     [2]byte
		VSID    uint32
		Set     uint32
		Hop     hop
	}

	hopSet struct {
		N   uint32
		Hop [maxHops]hop
	}

	settingsValue struct {
		Source4, Source6        addr
		Ifindex4, Ifindex6      uint32
		MTU                     uint32
		Punt                    uint32
		Fabrics, Pad            uint32
		PuntInterval, PuntBurst uint64
		BulkInterval, BulkBurst uint64
	}

	bucketValue struct {
		Lock, Pad      uint32
		Next, NextBulk uint64
	}

	count struct{ Packets, Bytes uint64 }

	trafficValue struct{ FromFabric, ToFabric, FromPorts, ToPorts count }

	eventKey struct{ VSID, Event uint32 }

	// rdid names a tenant beyond its number, for the next process.
	rdid [16]byte
)

const (
	maxHops = lookup.MaxHops
	maxTeam = 8

	paTunnel  = 1
	paGroup   = 2
	paRewrite = 3

	subnetSlow     = 1 << 0
	subnetNameless = 1 << 1
	subnetLearns   = 1 << 2

	portCompartment = 1 << 0
	portSlowOut     = 1 << 1
	portSlowIn      = 1 << 2
	portPeer        = 1 << 3
	portSlow        = 1 << 4
	portAskOut      = 1 << 5
	portAskIn       = 1 << 6

	dscpCopy = 0xff

	recordHere   = 1 << 0
	recordRouter = 1 << 1
	recordVMMAC  = 1 << 2

	routeOnLink = 1
	routeHops   = 2

	// punted and more is an event of a packet that went to user space.
	punted = 0x100
	// leftToStack is that of one that was the machine's own.
	leftToStack = 0x200
	// answered is that of a request that was.
	answered = 0x300

	// ipv4Bits is how many bits an IPv4 address has before its own, and
	// tableBits how many the table has in the key of a route.
	ipv4Bits  = 96
	tableBits = 32
)

func addrOf(a netip.Addr) addr { return a.As16() }

func (a addr) netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

func (a addr) lookup() lookup.Addr { return lookup.AddrFrom(a.netip()) }

// routeKeyOf gives the key of the tenant's prefix.
func routeKeyOf(tenant uint32, p netip.Prefix) routeKey {
	bits, six := uint32(p.Bits()), uint32(1)
	if p.Addr().Is4() {
		bits, six = bits+ipv4Bits, 0
	}
	return routeKey{Bits: tableBits + bits, Table: tenant<<1 | six, CA: addrOf(p.Addr())}
}

func (k routeKey) tenant() uint32 { return k.Table >> 1 }

func hopOf(k lookup.Key) hop { return hop{k.VSID(), addrOf(k.CA())} }

// table is a map of the kernel's, or what stands for one in a test. An entry is
// written in one piece.
type table[K comparable, V any] interface {
	put(keys []K, values []V) error
	delete(keys []K) error // it is no error if one is not there
	get(k K) (v V, ok bool, err error)
	all(yield func(K, V) bool) error
}

// tables are those that the mirror writes.
type tables struct {
	pas      table[addr, paValue]
	vsids    table[uint32, subnetValue]
	ports    table[uint32, portValue]
	stations table[stationKey, portValue]
	records  table[recordKey, recordValue]
	hosts    table[hostKey, uint8]
	teams    table[uint32, teamValue]
	routes   table[routeKey, routeValue]
	hopSets  table[uint32, hopSet]
	settings table[uint32, settingsValue] // two entries
	now      table[uint32, uint32]        // which of them holds
	buckets  table[uint32, bucketValue]
	// numbers are the tenants', and under the zero RDID the last one that was
	// given out.
	numbers table[rdid, uint32]
	traffic table[uint32, trafficValue] // summed up; put sets all to zero
	events  table[eventKey, uint64]     // summed up
	// verdicts are written as flows come and go.
	verdicts table[verdictKey, verdictValue]
	rates    rateMemory
}
