//go:build linux

package gateway

import (
	"fmt"
	"net/netip"

	"github.com/hnvgate/hnvgate/hnv"
)

// site is who has which address; the same in every rig.
type site struct {
	hostPA, otherPA, gatewayPA netip.Addr // the host has two
	fabric                     netip.Prefix
	fabricMAC, hostMAC         hnv.MAC // the gateway's and the host's pa0

	ca, router    netip.Addr   // the VM and its distributed router
	manyCAs       netip.Addr   // the first of others that are only configured
	subnet        netip.Prefix // theirs: room for a million others
	vmMAC         hnv.MAC
	compartmentCA netip.Addr
	gatewaySubnet netip.Prefix

	outside           netip.Prefix // the network of ext0 and gw0
	external          netip.Addr   // the gateway's own there
	internet          netip.Addr   // who is on the other side
	internetMAC       hnv.MAC
	externalMAC       hnv.MAC
	service           netip.Addr   // where the servers are
	strangers         netip.Prefix // addresses outside that nobody has (RFC 2544)
	firstVSID         uint32
	firstPool         netip.Addr
	streamPort        uint16
	echoPort, tcpPort uint16
}

func newSite() site {
	return site{
		hostPA:    netip.MustParseAddr("192.168.1.11"),
		otherPA:   netip.MustParseAddr("192.168.1.12"),
		gatewayPA: netip.MustParseAddr("192.168.1.1"),
		fabric:    netip.MustParsePrefix("192.168.1.0/24"),
		fabricMAC: mac(0x02, 0x00, 0xc0, 0xa8, 0x01, 0x01),
		hostMAC:   mac(0x02, 0x00, 0xc0, 0xa8, 0x01, 0x0b),

		ca:            netip.MustParseAddr("10.1.1.11"),
		manyCAs:       netip.MustParseAddr("10.2.0.0"),
		router:        netip.MustParseAddr("10.0.0.1"),
		subnet:        netip.MustParsePrefix("10.0.0.0/9"),
		vmMAC:         mac(0x00, 0x15, 0x5d, 0x01, 0x01, 0x0b),
		compartmentCA: netip.MustParseAddr("10.254.254.2"),
		gatewaySubnet: netip.MustParsePrefix("10.254.254.0/29"),

		outside:     netip.MustParsePrefix("100.64.0.0/16"),
		external:    netip.MustParseAddr("100.64.0.2"),
		internet:    netip.MustParseAddr("100.64.0.1"),
		internetMAC: mac(0x02, 0x00, 0x64, 0x40, 0x00, 0x01),
		externalMAC: mac(0x02, 0x00, 0x64, 0x40, 0x00, 0x02),
		service:     netip.MustParseAddr("198.51.100.10"),
		strangers:   netip.MustParsePrefix("198.18.0.0/16"),
		firstVSID:   10000,
		firstPool:   netip.MustParseAddr("100.64.1.0"),
		streamPort:  5201, echoPort: 7, tcpPort: 8000,
	}
}

func mac(b ...byte) hnv.MAC {
	m, err := hnv.MACFrom([6]byte(b))
	if err != nil {
		panic(err)
	}
	return m
}

// tenant is one of a case's tenants. The first one has the VM; the others are only
// there.
type tenant struct {
	name        string
	gatewayVSID hnv.VSID // of the subnet of the compartment
	vmVSID      hnv.VSID
	external    netip.Addr // its own outside
}

func (s site) tenant(n int) tenant {
	pool := s.firstPool.As4()
	pool[2] += byte(n >> 8)
	pool[3] = byte(n)
	return tenant{
		name: fmt.Sprintf("t%04d", n), external: netip.AddrFrom4(pool),
		gatewayVSID: vsid(s.firstVSID + 2*uint32(n)), vmVSID: vsid(s.firstVSID + 2*uint32(n) + 1),
	}
}

func vsid(n uint32) hnv.VSID {
	v, err := hnv.NewVSID(n)
	if err != nil {
		panic(err)
	}
	return v
}
