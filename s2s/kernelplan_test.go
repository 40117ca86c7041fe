//go:build linux

package s2s

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// fakeKernel is a device as the kernel's: it takes what it is told, in its order.
type fakeKernel struct {
	t *testing.T
	wgDevice
	stolen []netip.Prefix // prefixes that were nobody's for a moment, though somebody is to have them
}

func (f *fakeKernel) configure(c wgtypes.Config, kept map[netip.Prefix]bool) {
	if c.ReplacePeers {
		f.t.Error("all peers are replaced")
	}
	if c.PrivateKey != nil {
		f.private = Secret{Key(*c.PrivateKey)}
	}
	if c.ListenPort != nil {
		f.port = uint16(*c.ListenPort)
	}
	for _, p := range c.Peers {
		k := Key(p.PublicKey)
		now, there := f.peers[k]
		if p.UpdateOnly && !there || p.ReplaceAllowedIPs {
			f.t.Errorf("peer %x: %+v", k[0], p)
		}
		if p.Remove {
			for q := range now.prefixes {
				if kept[q] {
					f.stolen = append(f.stolen, q)
				}
			}
			delete(f.peers, k)
			continue
		}
		if !there {
			now.prefixes = map[netip.Prefix]bool{}
		}
		if p.PresharedKey != nil {
			now.preshared = Secret{Key(*p.PresharedKey)}
		}
		if p.Endpoint != nil {
			now.endpoint = p.Endpoint.AddrPort()
		}
		if p.PersistentKeepaliveInterval != nil {
			now.keepalive = uint16(*p.PersistentKeepaliveInterval / time.Second)
		}
		for _, n := range p.AllowedIPs {
			q := fromKernel(&wgtypes.Device{Peers: []wgtypes.Peer{{AllowedIPs: []net.IPNet{n}}}}).peers[Key{}].prefixes
			for q := range q {
				for _, other := range f.peers {
					delete(other.prefixes, q)
				}
				now.prefixes[q] = true
			}
		}
		f.peers[k] = now
	}
}

func TestPlanKernel(t *testing.T) {
	ep := netip.MustParseAddrPort
	base := func() wgDevice {
		return wgDevice{private: Secret{key(9)}, port: 51820, peers: map[Key]wgPeer{
			key(1): {endpoint: ep("1.1.1.1:1"), prefixes: set("10.1.0.0/16 10.3.0.0/16 fd01::/64")},
			key(2): {endpoint: ep("[2001:db8::2]:2"), keepalive: 25, prefixes: set("10.2.0.0/16")},
		}}
	}
	told := func(d wgDevice) map[Key]netip.AddrPort {
		out := map[Key]netip.AddrPort{}
		for k, p := range d.peers {
			out[k] = p.endpoint
		}
		return out
	}
	with := func(k Key, change func(*wgPeer)) func(*wgDevice) {
		return func(d *wgDevice) {
			p := d.peers[k]
			change(&p)
			d.peers[k] = p
		}
	}
	for name, c := range map[string]struct {
		change  func(*wgDevice)
		touched []Key
	}{
		"nothing":        {func(*wgDevice) {}, nil},
		"port":           {func(d *wgDevice) { d.port = 7 }, nil},
		"key":            {func(d *wgDevice) { d.private = Secret{key(8)} }, nil},
		"peer gone":      {func(d *wgDevice) { delete(d.peers, key(1)) }, []Key{key(1)}},
		"keepalive":      {with(key(2), func(p *wgPeer) { p.keepalive = 0 }), []Key{key(2)}},
		"endpoint":       {with(key(2), func(p *wgPeer) { p.endpoint = ep("3.3.3.3:3") }), []Key{key(2)}},
		"pre-shared key": {with(key(1), func(p *wgPeer) { p.preshared = Secret{key(5)} }), []Key{key(1)}},
		"prefix gone":    {with(key(1), func(p *wgPeer) { p.prefixes = set("10.1.0.0/16 fd01::/64") }), []Key{key(77)}},
		"prefix added":   {with(key(2), func(p *wgPeer) { p.prefixes = set("10.2.0.0/16 fd02::/64") }), []Key{key(2)}},
		"a prefix changes hands": {func(d *wgDevice) {
			with(key(1), func(p *wgPeer) { p.prefixes = set("10.1.0.0/16 fd01::/64") })(d)
			with(key(2), func(p *wgPeer) { p.prefixes = set("10.2.0.0/16 10.3.0.0/16") })(d)
		}, []Key{key(2)}},
		"a peer's key rotates": {func(d *wgDevice) {
			d.peers[key(3)] = d.peers[key(2)]
			delete(d.peers, key(2))
		}, []Key{key(2), key(3)}},
	} {
		want := base()
		c.change(&want)
		got, differs := planKernel(base(), want, told(base()), key(77))
		if differs != (name != "nothing") {
			t.Errorf("%s: differs %v", name, differs)
		}
		touched := map[Key]bool{}
		for _, p := range got.Peers {
			touched[Key(p.PublicKey)] = true
		}
		if len(touched) != len(c.touched) {
			t.Errorf("%s: peers %v are told something", name, touched)
		}
		for _, k := range c.touched {
			if !touched[k] {
				t.Errorf("%s: peer %x is told nothing", name, k[0])
			}
		}
		kept := map[netip.Prefix]bool{}
		for _, p := range want.peers {
			for q := range p.prefixes {
				kept[q] = true
			}
		}
		f := &fakeKernel{t: t, wgDevice: base()}
		f.configure(got, kept)
		if len(f.stolen) > 0 {
			t.Errorf("%s: %v have no peer for a moment", name, f.stolen)
		}
		if d := cmp.Diff(want, f.wgDevice, cmp.AllowUnexported(wgDevice{}, wgPeer{}, Secret{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
			cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// Who adopts a link leaves peers alone that have moved since they were told where to be
// found, and moves those that are to be found elsewhere now.
func TestAdopted(t *testing.T) {
	ep := netip.MustParseAddrPort
	tun := Tunnel{Name: "hq", PrivateKey: Secret{key(7)}, Peers: []Peer{{Name: "a", PublicKey: key(1), Endpoint: ep("1.1.1.1:1"), Prefixes: prefixList("10.0.0.0/8")}}}
	alias := aliasPrefix + tun.Name + endpointMark(tun.wanted())
	have := tun.wanted()
	p := have.peers[key(1)]
	p.endpoint = ep("7.7.7.7:7")
	have.peers[key(1)] = p
	if _, differs := planKernel(have, tun.wanted(), adopted(alias, have, tun.wanted()), key(77)); differs {
		t.Error("a peer that moved is sent back")
	}
	tun.Peers[0].Endpoint = ep("2.2.2.2:2")
	c, differs := planKernel(have, tun.wanted(), adopted(alias, have, tun.wanted()), key(77))
	if !differs || len(c.Peers) != 1 || c.Peers[0].Endpoint.AddrPort() != tun.Peers[0].Endpoint {
		t.Errorf("a peer that is elsewhere is told %+v", c.Peers)
	}
}

func TestPick(t *testing.T) {
	plain := Tunnel{InboundKbps: 1000}
	mapped := Tunnel{LocalMaps: []Map{{}}}
	none := func() error { return errNoWireGuard }
	has := func() error { return nil }
	for _, c := range []struct {
		want   Implementation
		t      Tunnel
		probe  func() error
		kind   Implementation
		reason string
	}{
		{"", plain, has, Kernel, reasonHad},
		{"", plain, none, Embedded, reasonMissing},
		{"", mapped, has, Embedded, reasonMapped},
		{Embedded, plain, func() error { t.Error("the kernel was asked"); return nil }, Embedded, reasonForced},
		{Kernel, plain, has, Kernel, reasonForced},
		{Kernel, plain, none, "", ""},
		{Kernel, mapped, has, "", ""},
	} {
		kind, reason, err := pick(c.want, c.t, c.probe)
		if kind != c.kind || reason != c.reason || (err != nil) != (c.kind == "") {
			t.Errorf("%q: %q because %q, %v; want %q because %q", c.want, kind, reason, err, c.kind, c.reason)
		}
	}
}
