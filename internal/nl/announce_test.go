//go:build linux

package nl

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func TestAnnouncement(t *testing.T) {
	mac := [6]byte{2, 1, 2, 3, 4, 5}
	arp := gopacket.NewPacket(Announcement(mac, netip.MustParseAddr("203.0.113.10")), layers.LayerTypeEthernet, gopacket.Default)
	a, ok := arp.Layer(layers.LayerTypeARP).(*layers.ARP)
	if !ok || a.Operation != layers.ARPRequest || string(a.SourceProtAddress) != string(a.DstProtAddress) ||
		string(a.SourceHwAddress) != string(mac[:]) || arp.ErrorLayer() != nil {
		t.Errorf("%s", arp)
	}
	frame := Announcement(mac, netip.MustParseAddr("2001:db8::10"))
	nd := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	na, ok := nd.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
	if !ok || na.TargetAddress.String() != "2001:db8::10" || !na.Override() || na.Solicited() || len(na.Options) != 1 ||
		string(na.Options[0].Data) != string(mac[:]) || nd.ErrorLayer() != nil {
		t.Errorf("%s", nd)
	}
	// The checksum over all is right when gopacket computes the same.
	ip, icmp := nd.Layer(layers.LayerTypeIPv6).(*layers.IPv6), nd.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	had := icmp.Checksum
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{ComputeChecksums: true}, icmp, gopacket.Payload(icmp.Payload)); err != nil {
		t.Fatal(err)
	}
	if icmp.Checksum != had {
		t.Errorf("checksum %#x, not %#x", had, icmp.Checksum)
	}
}
