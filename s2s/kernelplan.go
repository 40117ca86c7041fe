package s2s

import (
	"net"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// fromKernel is what the kernel tells of a device.
func fromKernel(k *wgtypes.Device) wgDevice {
	d := wgDevice{private: Secret{k.PrivateKey}, port: uint16(k.ListenPort), peers: map[Key]wgPeer{}}
	for _, p := range k.Peers {
		w := wgPeer{preshared: Secret{p.PresharedKey}, keepalive: uint16(p.PersistentKeepaliveInterval / time.Second), prefixes: map[netip.Prefix]bool{},
			handshake: p.LastHandshakeTime, rx: uint64(p.ReceiveBytes), tx: uint64(p.TransmitBytes)}
		if p.Endpoint != nil {
			a := p.Endpoint.AddrPort()
			w.endpoint = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		}
		for _, n := range p.AllowedIPs {
			a, ok := netip.AddrFromSlice(n.IP)
			bits, _ := n.Mask.Size()
			if ok {
				w.prefixes[netip.PrefixFrom(a.Unmap(), bits)] = true
			}
		}
		d.peers[Key(p.PublicKey)] = w
	}
	return d
}

// planKernel gives what brings a device of the kernel's from have to want, and whether
// anything differs; told is as planDevice has it. A prefix goes from one peer to another
// in one step, as the kernel takes it from whoever has it. One that nobody is to have any
// more goes to a peer of the key spare, which is then removed: the kernel can take
// prefixes away from a peer only all at once, which would leave the others' packets
// without a peer meanwhile.
func planKernel(have, want wgDevice, told map[Key]netip.AddrPort, spare Key) (c wgtypes.Config, differs bool) {
	if have.private != want.private {
		k := wgtypes.Key(want.private.key)
		c.PrivateKey, differs = &k, true
	}
	if want.port != 0 && have.port != want.port {
		port := int(want.port)
		c.ListenPort, differs = &port, true
	}
	kept := map[netip.Prefix]bool{}
	for _, w := range want.peers {
		for q := range w.prefixes {
			kept[q] = true
		}
	}
	var lost []net.IPNet
	for _, k := range sortedKeys(want.peers) {
		h, there := have.peers[k]
		if p, changed := planPeer(h, want.peers[k], there, told[k]); changed || !there {
			p.PublicKey, p.UpdateOnly = wgtypes.Key(k), there
			c.Peers = append(c.Peers, p)
		}
		for _, q := range missing(h.prefixes, kept) {
			lost = append(lost, ipNet(q))
		}
	}
	if len(lost) > 0 {
		c.Peers = append(c.Peers, wgtypes.PeerConfig{PublicKey: wgtypes.Key(spare), AllowedIPs: lost},
			wgtypes.PeerConfig{PublicKey: wgtypes.Key(spare), UpdateOnly: true, Remove: true})
	}
	for _, k := range sortedKeys(have.peers) { // at last: others may have their prefixes now
		if _, stays := want.peers[k]; !stays {
			c.Peers = append(c.Peers, wgtypes.PeerConfig{PublicKey: wgtypes.Key(k), UpdateOnly: true, Remove: true})
		}
	}
	return c, differs || len(c.Peers) > 0
}

func planPeer(have, want wgPeer, there bool, told netip.AddrPort) (p wgtypes.PeerConfig, changed bool) {
	if have.preshared != want.preshared {
		k := wgtypes.Key(want.preshared.key)
		p.PresharedKey, changed = &k, true
	}
	if e := want.endpoint; e.IsValid() && (!there || told != e) && have.endpoint != e {
		p.Endpoint, changed = net.UDPAddrFromAddrPort(e), true
	}
	if have.keepalive != want.keepalive {
		every := time.Duration(want.keepalive) * time.Second
		p.PersistentKeepaliveInterval, changed = &every, true
	}
	for _, q := range missing(want.prefixes, have.prefixes) {
		p.AllowedIPs, changed = append(p.AllowedIPs, ipNet(q)), true
	}
	return p, changed
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
