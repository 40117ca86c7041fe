package nft

import "time"

// Family is the address family of a table.
type Family uint8

// The families.
const (
	Inet   Family = 1
	IPv4   Family = 2
	NetDev Family = 5
	Bridge Family = 7
	IPv6   Family = 10
)

func (f Family) String() string {
	switch f {
	case Inet:
		return "inet"
	case IPv4:
		return "ip"
	case IPv6:
		return "ip6"
	case NetDev:
		return "netdev"
	case Bridge:
		return "bridge"
	}
	return "unknown"
}

// A Table is all of one table. Chains may jump to any chain of the table; sets
// and counters are referred to by name.
type Table struct {
	Family   Family
	Name     string
	Counters []string
	Sets     []Set
	Chains   []Chain
}

// A Chain holds rules; one with a Hook sees packets by itself.
type Chain struct {
	Name  string
	Hook  *Hook
	Rules []Rule
}

// Hook says where a base chain is attached.
type Hook struct {
	Type     ChainType
	At       HookPoint
	Priority int32
	Drop     bool   // what happens at the end of the chain
	Device   string // for NetDev tables
}

// ChainType is the kind of a base chain.
type ChainType string

// The chain types.
const (
	Filter ChainType = "filter"
	NAT    ChainType = "nat"
	Route  ChainType = "route"
)

// HookPoint is a place in the packet's path.
type HookPoint string

// The hook points; Ingress is for NetDev tables only.
const (
	Prerouting  HookPoint = "prerouting"
	Input       HookPoint = "input"
	Forward     HookPoint = "forward"
	Output      HookPoint = "output"
	Postrouting HookPoint = "postrouting"
	Ingress     HookPoint = "ingress"
)

func (h HookPoint) number() uint32 {
	switch h {
	case Input:
		return 1
	case Forward:
		return 2
	case Output:
		return 3
	case Postrouting:
		return 4
	}
	return 0 // prerouting, and a device's ingress
}

// Well-known priorities.
const (
	PriorityRaw       = -300
	PriorityConntrack = -200
	PriorityMangle    = -150
	PriorityDstNAT    = -100
	PriorityFilter    = 0
	PrioritySecurity  = 50
	PrioritySrcNAT    = 100
)

// A Rule is a list of statements, carried out from the left until one does not
// match.
type Rule struct {
	Stmts   []Stmt
	Comment string
}

// R makes a rule of statements.
func R(stmts ...Stmt) Rule { return Rule{Stmts: stmts} }

// Note gives the rule a comment, which nft list shows.
func (r Rule) Note(comment string) Rule {
	r.Comment = comment
	return r
}

// A Set is a named set, or with a Value a map. The fields of a key of several
// types are concatenated. Elements must not overlap.
type Set struct {
	Name     string
	Key      []Type
	Value    []Type
	Interval bool // elements may be prefixes and ranges
	// Dynamic sets are filled by rules, up to Size; they have no Elements here,
	// and Apply leaves those they have alone.
	Dynamic bool
	Size    uint32
	// Timeout ends an element of a dynamic set so long after a rule has put it in last;
	// 0: never. In whole seconds.
	Timeout  time.Duration
	Elements []Element
}

// An Element is one entry of a Set.
type Element struct {
	Key   []Value
	Value []Value
}

// E makes an element of a plain set.
func E(key ...Value) Element { return Element{Key: key} }

// To makes it an element of a map.
func (e Element) To(value ...Value) Element {
	e.Value = value
	return e
}

// Counter is what a named counter has seen.
type Counter struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}
