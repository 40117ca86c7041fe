package hnv

// Kind names a sort of object, as it stands in the API, the store and the CLI.
type Kind string

// The kinds, in the order in which each may depend on those before it.
const (
	KindProviderAddress Kind = "provider-address"
	KindProviderRoute   Kind = "provider-route"
	KindTenant          Kind = "tenant"
	KindACL             Kind = "acl"
	KindPort            Kind = "port"
	KindRecord          Kind = "record"
	KindCustomerRoute   Kind = "customer-route"
	KindNATMapping      Kind = "nat-mapping"
	KindAttachment      Kind = "attachment"
	KindS2SConnection   Kind = "s2s-connection"
	KindBGPRouter       Kind = "bgp-router"
	KindBGPPeer         Kind = "bgp-peer"
)

// kinds lists all kinds in dependency order.
var kinds = [...]Kind{
	KindProviderAddress, KindProviderRoute, KindTenant, KindACL, KindPort,
	KindRecord, KindCustomerRoute, KindNATMapping, KindAttachment, KindS2SConnection,
	KindBGPRouter, KindBGPPeer,
}

// Kinds gives all kinds, each after those it may depend on.
func Kinds() []Kind { return append([]Kind(nil), kinds[:]...) }

// noun is the kind in a sentence.
func (k Kind) noun() string {
	switch k {
	case KindProviderAddress:
		return "provider address"
	case KindProviderRoute:
		return "provider route"
	case KindACL:
		return "ACL"
	case KindRecord:
		return "lookup record"
	case KindCustomerRoute:
		return "customer route"
	case KindNATMapping:
		return "NAT mapping"
	case KindS2SConnection:
		return "site-to-site connection"
	case KindBGPRouter:
		return "BGP router"
	case KindBGPPeer:
		return "BGP peer"
	}
	return string(k)
}

func (k Kind) order() int {
	for i, o := range kinds {
		if o == k {
			return i
		}
	}
	return len(kinds)
}

// Object is one piece of desired state. Objects are values; a stored one is
// never changed, only replaced.
type Object interface {
	Kind() Kind
	// Key is unique among objects of the kind; it holds no white space.
	Key() string
	// Check tells what is wrong with the object taken alone.
	Check() error
}

// New gives an empty object of the kind for decoding into, as a pointer.
func New(k Kind) (Object, error) {
	switch k {
	case KindProviderAddress:
		return new(ProviderAddress), nil
	case KindProviderRoute:
		return new(ProviderRoute), nil
	case KindTenant:
		return new(Tenant), nil
	case KindACL:
		return new(ACL), nil
	case KindPort:
		return new(Port), nil
	case KindRecord:
		return new(Record), nil
	case KindCustomerRoute:
		return new(CustomerRoute), nil
	case KindNATMapping:
		return new(NATMapping), nil
	case KindAttachment:
		return new(Attachment), nil
	case KindS2SConnection:
		return new(S2SConnection), nil
	case KindBGPRouter:
		return new(BGPRouter), nil
	case KindBGPPeer:
		return new(BGPPeer), nil
	}
	return nil, invalidf("unknown kind of object %q", k)
}
