package forwarder

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

func name(t testing.TB, s string) hnv.Name {
	t.Helper()
	n, err := hnv.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// dc is an attachment with nothing wrong.
func dc(t testing.TB) Attachment {
	return Attachment{
		Name: name(t, "dc"), Link: "fw-dc", Kind: KindMACVLAN, Parent: "dc0", MTU: 1500,
		Addresses: []netip.Prefix{pfx("10.50.0.2/24"), pfx("fd50::2/64")},
		Routes: []Route{
			{Prefix: pfx("10.60.0.0/16"), NextHop: ip("10.50.0.1")},
			{Prefix: pfx("10.60.0.0/16"), NextHop: ip("10.50.0.9")},
			{Prefix: pfx("10.60.0.0/16"), NextHop: ip("10.50.0.1"), Metric: 50},
			{Prefix: pfx("::/0"), NextHop: ip("fe80::1"), Metric: 2000},
		},
	}
}

func spec(t testing.TB, as ...Attachment) Spec {
	return Spec{Tenant: name(t, "contoso"), Namespace: "/run/netns/x", Attachments: as}
}

func TestCheckTakes(t *testing.T) {
	vlan := Attachment{Name: name(t, "vlan"), Link: "fw-vlan", Kind: KindVLAN, Parent: "dc0", VLAN: 100, ReversePath: Loose,
		Addresses: []netip.Prefix{pfx("192.0.2.0/31"), pfx("fe80::5/64")}}
	br := Attachment{Name: name(t, "br"), Link: "fw-br", Kind: KindBridge, Parent: "br0", ReversePath: Off}
	for what, s := range map[string]Spec{"nothing": spec(t), "all kinds": spec(t, dc(t), vlan, br)} {
		if err := s.Check(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	route := func(prefix, hop string) func(*Attachment) {
		return func(a *Attachment) { a.Routes = append(a.Routes, Route{Prefix: pfx(prefix), NextHop: ip(hop)}) }
	}
	address := func(p string) func(*Attachment) {
		return func(a *Attachment) { a.Addresses = append(a.Addresses, pfx(p)) }
	}
	for says, change := range map[string]func(*Attachment){
		"has no name":                                                 func(a *Attachment) { a.Name = hnv.Name{} },
		`"ext" cannot be the name`:                                    func(a *Attachment) { a.Link = "ext" },
		`"wnv5000" cannot be the name`:                                func(a *Attachment) { a.Link = "wnv5000" },
		`"fw-0123456789abc" cannot be`:                                func(a *Attachment) { a.Link = "fw-0123456789abc" },
		`"" is not the name of an`:                                    func(a *Attachment) { a.Parent = "" },
		`kind "ipvlan" is unknown`:                                    func(a *Attachment) { a.Kind = "ipvlan" },
		"VLAN 0: an uplink of kind vlan":                              func(a *Attachment) { a.Kind = KindVLAN },
		"VLAN 4095: an uplink of kind vlan":                           func(a *Attachment) { a.Kind, a.VLAN = KindVLAN, 4095 },
		"VLAN 5: only an uplink of kind":                              func(a *Attachment) { a.VLAN = 5 },
		"MTU 67 is out of range":                                      func(a *Attachment) { a.MTU = 67 },
		"MTU 1279 is too small for IPv6":                              func(a *Attachment) { a.MTU = 1279 },
		`"maybe" is unknown: use strict`:                              func(a *Attachment) { a.ReversePath = "maybe" },
		"10.51.0.0/24 is that of":                                     address("10.51.0.0/24"),
		"10.51.0.255/24 is that of":                                   address("10.51.0.255/24"),
		"10.50.0.2 is given twice":                                    address("10.50.0.2/16"),
		"224.0.0.1/24 cannot be":                                      address("224.0.0.1/24"),
		"127.0.0.1/8 cannot be":                                       address("127.0.0.1/8"),
		"write 10.70.0.0/16":                                          route("10.70.0.1/16", "10.50.0.1"),
		"224.0.0.0/4: multicast":                                      route("224.0.0.0/4", "10.50.0.1"),
		"via fd50::1: the next hop is of":                             route("10.70.0.0/16", "fd50::1"),
		"is the attachment itself":                                    route("10.70.0.0/16", "10.50.0.2"),
		"none of the attachment's networks (10.50.0.0/24, fd50::/64)": route("10.70.0.0/16", "10.51.0.1"),
		"names no next hop":                                           func(a *Attachment) { a.Routes = []Route{{Prefix: pfx("10.70.0.0/16")}} },
		"a route's prefix is malformed":                               func(a *Attachment) { a.Routes = []Route{{NextHop: ip("10.50.0.1")}} },
		"via 10.50.0.1 is given twice":                                route("10.60.0.0/16", "10.50.0.1"),
		"routes are too many: a compartment can have ":                func(a *Attachment) { a.Routes = make([]Route, MaxRoutes+1) },
	} {
		a := dc(t)
		change(&a)
		err := spec(t, a).Check()
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, which does not say %q", err, says)
		}
	}
}

func TestCheckRefusesTogether(t *testing.T) {
	other := func(change func(*Attachment)) Attachment {
		a := dc(t)
		a.Name, a.Link, a.Addresses, a.Routes = name(t, "other"), "fw-other", nil, nil
		change(&a)
		return a
	}
	vlan := Attachment{Name: name(t, "v"), Link: "fw-v", Kind: KindVLAN, Parent: "dc0", VLAN: 7}
	for says, o := range map[string]Attachment{
		"the name is given twice":          other(func(a *Attachment) { a.Name = name(t, "dc") }),
		"both have the link fw-dc":         other(func(a *Attachment) { a.Link = "fw-dc" }),
		"both have the address 10.50.0.2":  other(func(a *Attachment) { a.Addresses = []netip.Prefix{pfx("10.50.0.2/16")} }),
		"in the network 10.50.0.0/24: the": other(func(a *Attachment) { a.Addresses = []netip.Prefix{pfx("10.50.0.3/24")} }),
		"both are in VLAN 7 of dc0":        {Name: name(t, "w"), Link: "fw-w", Kind: KindVLAN, Parent: "dc0", VLAN: 7},
	} {
		err := spec(t, dc(t), vlan, o).Check()
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, which does not say %q", err, says)
		}
	}
	if err := spec(t, make([]Attachment, MaxAttachments+1)...).Check(); err == nil || !strings.Contains(err.Error(), "a compartment can have 64") {
		t.Errorf("%v", err)
	}
}
