package lookup

import (
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
)

// Subnet is what a virtual subnet is configured with. It is immutable.
type Subnet struct {
	VSID     uint32
	Prefixes []hnv.SubnetPrefix
	ACL      hnv.Name      // of ports that name none of their own; invalid: none
	Learning *hnv.Learning // nil: off
	Group    Addr          // the PA multicast group for its broadcasts; invalid: none
	DHCP     netip.Addr    // its DHCP server's CA; invalid: none
}

func subnetFrom(s *hnv.Subnet) *Subnet {
	return &Subnet{
		VSID:     s.VSID.Uint32(),
		Prefixes: slices.Clone(s.Prefixes),
		ACL:      s.ACL,
		Learning: s.Learning,
		Group:    AddrFrom(s.MulticastGroup),
		DHCP:     s.DHCP,
	}
}

// Subnet finds a virtual subnet of the domain, nil if it is not one.
func (d *Domain) Subnet(vsid uint32) *Subnet { return d.subnets[vsid] }

// ACL finds an ACL of the domain, nil if there is none of the name.
func (d *Domain) ACL(name hnv.Name) *hnv.ACL {
	for i := range d.ACLs {
		if d.ACLs[i].Name == name {
			return &d.ACLs[i]
		}
	}
	return nil
}
