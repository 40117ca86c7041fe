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
