package hnv

import (
	"errors"
	"strings"
	"testing"
)

// On uplinks that are not routed, attachments share a wire: each VLAN is one
// attachment's, and each address one tenant's.
func TestSameWire(t *testing.T) {
	kinds := Site{
		Uplinks: []string{"internet", "trunk", "dc", "servers"}, PAInterfaces: site.PAInterfaces,
		UplinkKinds: map[string]string{"trunk": UplinkVLAN, "dc": UplinkMACVLAN, "servers": UplinkBridge},
	}
	foot := func(tenant, name, uplink string, vlan uint16, address string) Attachment {
		a := attachment(tenant, name, address)
		a.Uplink, a.VLAN = uplink, vlan
		return a
	}
	f := NewFabric(kinds)
	put := func(os ...Object) error {
		var changes []Change
		for _, o := range os {
			changes = append(changes, Change{Put: o})
		}
		_, err := f.Apply(changes)
		return err
	}
	route := foot("contoso", "a", "trunk", 7, "198.51.100.2/24")
	route.Routes = []AttachmentRoute{{Prefix: prefix("10.60.0.0/16"), NextHop: addr("198.51.100.1")}}
	if err := put(tenant("contoso", 5001, "203.0.113.10"), tenant("fabrikam", 6001, "203.0.113.20"), route,
		foot("contoso", "b", "trunk", 8, "198.51.101.2/24"), foot("contoso", "c", "dc", 0, "198.51.102.2/24"),
		foot("fabrikam", "d", "servers", 0, "198.51.103.2/24"), foot("fabrikam", "e", "trunk", 9, "198.51.100.2/24"),
	); err != nil {
		t.Fatal(err)
	}
	if err := put(route); err != nil {
		t.Errorf("the same again: %v", err)
	}
	noHop := route
	noHop.Routes = []AttachmentRoute{{Prefix: prefix("10.60.0.0/16")}}
	for says, a := range map[string]Attachment{
		"VLAN 7 of uplink trunk is that of attachment contoso/a":  foot("fabrikam", "x", "trunk", 7, "198.51.110.9/24"),
		"VLAN 8 of uplink trunk is that of attachment contoso/b":  foot("contoso", "x", "trunk", 8, "198.51.109.9/24"),
		"give the VLAN, 1 to 4094":                                foot("fabrikam", "x", "trunk", 0, "198.51.100.9/24"),
		"uplink servers is of kind bridge, which has no VLANs":    foot("fabrikam", "x", "servers", 7, "198.51.100.9/24"),
		"address 198.51.102.2 is that of tenant contoso on the s": foot("fabrikam", "x", "dc", 0, "198.51.102.2/25"),
		"overlaps 198.51.102.2/24 of attachment contoso/c":        foot("contoso", "x", "dc", 0, "198.51.102.7/25"),
		"route 10.60.0.0/16 has no next hop":                      noHop,
	} {
		if err := put(a); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, which does not say %q", err, says)
		}
	}
}

// What attachments have forwarded over routed uplinks is one tenant's outside, and no
// part of the fabric, whichever comes first.
func TestForwardedApart(t *testing.T) {
	fabrikam := tenant("fabrikam", 6001, "203.0.113.20")
	for i, p := range []string{"10.2.1.0/24", "10.2.2.0/24", "10.253.254.0/29"} {
		fabrikam.Subnets[i].Prefixes = []SubnetPrefix{{Prefix: prefix(p)}}
	}
	inside := fabrikam // its external address is one of contoso's VMs
	inside.Gateway = &Gateway{VSID: vsid(6000), Uplink: "internet", NAT: &NAT{Pool: []ExternalRange{must(ParseExternalRange("10.1.2.7"))}}}
	plain, moved := tenant("fabrikam", 6001, "203.0.113.20"), Site{Uplinks: []string{"internet", "other"}, PAInterfaces: site.PAInterfaces}
	elsewhere := attachment("fabrikam", "dc", "198.51.100.2/32")
	elsewhere.Uplink = "other"
	six := func(name string, base uint32, address string) []Object {
		x := tenant(name, base, "203.0.113.1")
		x.Gateway.NAT = nil
		return []Object{x, attachment(name, "dc", address)}
	}
	foot := attachment("contoso", "dc", "198.51.100.1/32")
	for what, c := range map[string]struct {
		first, then []Object
		want        string // "": it is right
	}{
		"apart":                  {[]Object{foot, fabrikam}, []Object{attachment("fabrikam", "dc", "198.51.100.2/32")}, ""},
		"another's address":      {[]Object{foot}, []Object{inside}, "external address 10.1.2.7 lies in prefix 10.1.2.0/24 of tenant contoso"},
		"of another's address":   {[]Object{inside}, []Object{foot}, "prefix 10.1.2.0/24, which an attachment has forwarded over a routed uplink, holds external address 10.1.2.7 of tenant fabrikam"},
		"both at once":           {nil, []Object{inside, foot}, "of tenant fabrikam"},
		"another attachment's":   {[]Object{foot, fabrikam}, []Object{attachment("fabrikam", "dc", "10.1.1.9/32")}, "lies in prefix 10.1.1.0/24 of tenant contoso"},
		"without an attachment":  {nil, []Object{inside}, ""},
		"over another uplink":    {[]Object{plain, foot}, []Object{elsewhere}, "outside, an address is one tenant's"},
		"the fabric's":           {[]Object{foot}, []Object{ProviderAddress{Addr: prefix("10.1.0.1/16"), Interface: "pa0"}}, "overlaps 10.1.1.0/24 of tenant contoso"},
		"of the fabric's":        {[]Object{ProviderAddress{Addr: prefix("10.1.1.1/30"), Interface: "pa0"}}, []Object{foot}, "overlaps the fabric's prefix 10.1.1.0/30"},
		"of a family without it": {six("contoso", 5001, "2001:db8::1/128"), six("fabrikam", 6001, "2001:db8::2/128"), ""},
	} {
		f := NewFabric(moved)
		apply := func(os []Object) error {
			var changes []Change
			for _, o := range os {
				changes = append(changes, Change{Put: o})
			}
			_, err := f.Apply(changes)
			return err
		}
		if err := apply([]Object{tenant("contoso", 5001, "203.0.113.10")}); err != nil {
			t.Fatal(err)
		}
		if err := apply(c.first); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		switch err := apply(c.then); {
		case c.want == "" && err != nil:
			t.Errorf("%s: refused: %v", what, err)
		case c.want != "" && (!errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, which does not say %q", what, err, c.want)
		}
	}
}
