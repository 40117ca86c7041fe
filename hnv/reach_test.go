package hnv

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/hnv/peering"
)

func attachment(tenant, name, address string) Attachment {
	return Attachment{Tenant: must(ParseName(tenant)), Name: must(ParseName(name)), Uplink: site.Uplinks[0], Addresses: []netip.Prefix{netip.MustParsePrefix(address)}}
}

func wgKey(n byte) WGKey { return WGKey{[32]byte{n}} }

func connection(tenant, name string, own, peer byte) S2SConnection {
	return S2SConnection{
		Tenant: must(ParseName(tenant)), Name: must(ParseName(name)), PrivateKey: "sealed", PublicKey: wgKey(own),
		Addresses: []netip.Prefix{prefix("169.254.0.1/30")},
		Peers:     []S2SPeer{{Name: must(ParseName("site")), PublicKey: wgKey(peer), Endpoint: netip.MustParseAddrPort("192.0.2.9:51820"), Prefixes: []netip.Prefix{prefix("10.20.0.0/16")}}},
	}
}

func bgpPeer(tenant, name, address string, asn uint32) BGPPeer {
	return BGPPeer{Tenant: must(ParseName(tenant)), Peer: peering.Peer{Name: name, Address: addr(address), ASN: asn}}
}

func router(tenant string, asn uint32) BGPRouter {
	return BGPRouter{Tenant: must(ParseName(tenant)), ASN: asn}
}

// What a connection leaves out is filled in, and stays over replacements.
func TestListenPorts(t *testing.T) {
	f := base(t)
	shared := func(name string, vsid uint32, rng string) Tenant {
		x := tenant(name, vsid, "203.0.113.30")
		r := must(ParseExternalRange(rng))
		x.Gateway.NAT.Pool = []ExternalRange{r}
		return x
	}
	apply := func(cs ...Object) {
		t.Helper()
		var changes []Change
		for _, o := range cs {
			changes = append(changes, Change{Put: o})
		}
		if _, err := f.Apply(changes); err != nil {
			t.Fatal(err)
		}
	}
	port := func(tenant, name string) uint16 {
		t.Helper()
		c, ok := f.Connection(must(ParseName(tenant)), must(ParseName(name)))
		if !ok {
			t.Fatalf("no connection %s/%s", tenant, name)
		}
		return c.ListenPort
	}
	apply(connection("contoso", "hq", 1, 2), connection("contoso", "branch", 3, 2))
	if a, b := port("contoso", "hq"), port("contoso", "branch"); min(a, b) != 51820 || max(a, b) != 51821 {
		t.Errorf("ports %d and %d", a, b)
	}
	was := port("contoso", "hq")
	again := connection("contoso", "hq", 1, 4)
	again.PrivateKey, again.PublicKey = "", WGKey{}
	apply(again)
	if c, _ := f.Connection(again.Tenant, again.Name); c.ListenPort != was || c.PublicKey != wgKey(1) || c.Peers[0].PublicKey != wgKey(4) {
		t.Errorf("a replacement made it port %d, key %s, peer %s", c.ListenPort, c.PublicKey, c.Peers[0].PublicKey)
	}
	// Two tenants on one address, each within its range, from the end.
	apply(shared("northwind", 7001, "203.0.113.30:20000-29999"), shared("adatum", 8001, "203.0.113.30:30000-39999"))
	taken := mapping("northwind", "203.0.113.30:29999", "10.1.1.11:53")
	taken.Proto = UDP
	apply(taken, connection("northwind", "hq", 1, 2), connection("adatum", "hq", 1, 2))
	if a, b := port("northwind", "hq"), port("adatum", "hq"); a != 29998 || b != 39999 {
		t.Errorf("on a shared address: ports %d and %d", a, b)
	}
	// Of an address that a tenant has two ranges of, the second one is for when the first
	// is full.
	two := tenant("northwind", 7001, "203.0.113.31")
	two.Gateway.NAT.Pool = []ExternalRange{must(ParseExternalRange("203.0.113.31:20000-20001")), must(ParseExternalRange("203.0.113.31:30000-30001"))}
	cascade, err := f.Cascade(two.Name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Apply(cascade); err != nil {
		t.Fatal(err)
	}
	apply(two)
	for i, want := range []uint16{20001, 20000, 30001, 30000, 0} {
		name := fmt.Sprintf("c%d", i)
		if want == 0 {
			if _, err := f.Apply([]Change{{Put: connection("northwind", name, byte(10+i), 2)}}); err == nil || !strings.Contains(err.Error(), "no UDP port is free") {
				t.Errorf("without a port: %v", err)
			}
			continue
		}
		apply(connection("northwind", name, byte(10+i), 2))
		if got := port("northwind", name); got != want {
			t.Errorf("connection %d has port %d, want %d", i, got, want)
		}
	}
	if c, _ := f.Connection(must(ParseName("contoso")), must(ParseName("hq"))); c.Link() != "wg-hq" {
		t.Errorf("link %s", c.Link())
	}
	long := connection("contoso", "headquarters-in-berlin", 1, 2)
	if l := long.Link(); len(l) != 15 || !strings.HasPrefix(l, "wg-") {
		t.Errorf("link %q", l)
	}
}

// Each of these is refused with the reason, and nothing of it stays.
func TestWaysOutRefused(t *testing.T) {
	conn := func(spoil func(c *S2SConnection)) []Object {
		c := connection("contoso", "hq", 1, 2)
		spoil(&c)
		return []Object{c}
	}
	foot := func(spoil func(a *Attachment)) []Object {
		a := attachment("contoso", "dc", "198.51.100.1/32")
		spoil(&a)
		return []Object{a}
	}
	for i, c := range []struct {
		put  []Object
		kind error
		want string
	}{
		{conn(func(c *S2SConnection) { c.PrivateKey = "" }), ErrInvalid, "no private key"},
		{conn(func(c *S2SConnection) { c.Peers[0].PublicKey = c.PublicKey }), ErrInvalid, "is this end's own"},
		{conn(func(c *S2SConnection) { c.Peers[0].PublicKey = WGKey{} }), ErrInvalid, "public key is missing"},
		{conn(func(c *S2SConnection) {
			p := c.Peers[0]
			p.Name, p.PublicKey = must(ParseName("two")), wgKey(9)
			c.Peers = append(c.Peers, p)
		}), ErrInvalid, "claimed by peer site too"},
		{conn(func(c *S2SConnection) { c.LocalAddress = addr("203.0.113.99") }), ErrConflict, "is not the tenant's"},
		{conn(func(c *S2SConnection) { c.Peers[0].Endpoint = netip.MustParseAddrPort("203.0.113.10:51820") }), ErrConflict, "is the tenant's own"},
		{conn(func(c *S2SConnection) { c.Peers[0].Prefixes = []netip.Prefix{prefix("10.1.1.0/25")} }), ErrConflict, "remoteMaps"},
		{conn(func(c *S2SConnection) {
			c.Peers[0].Prefixes = []netip.Prefix{prefix("172.16.1.0/24")}
			c.RemoteMaps = []PrefixMap{{prefix("172.16.0.0/16"), prefix("10.1.0.0/16")}}
		}), ErrConflict, "172.16.1.0/24 lies in 10.1.1.0/24"},
		{conn(func(c *S2SConnection) { c.Addresses = []netip.Prefix{prefix("10.1.1.9/30")} }), ErrConflict, "lies in prefix"},
		{append(conn(func(c *S2SConnection) { c.ListenPort = 5555 }), func() Object {
			c := connection("contoso", "branch", 3, 4)
			c.ListenPort, c.Addresses = 5555, nil
			return c
		}()), ErrConflict, "UDP port 5555 at 203.0.113.10 is that of"},
		{foot(func(a *Attachment) { a.Uplink = "moon" }), ErrNotFound, `uplink "moon"`},
		{foot(func(a *Attachment) { a.VLAN = 7 }), ErrConflict, "has no VLANs"},
		{foot(func(a *Attachment) { a.Addresses[0] = prefix("198.51.100.1/24") }), ErrConflict, "single address"},
		{foot(func(a *Attachment) { a.Addresses[0] = prefix("203.0.113.20/32") }), ErrConflict, "belongs to tenant fabrikam too"},
		{foot(func(a *Attachment) { a.Addresses[0] = prefix("203.0.113.10/32") }), ErrConflict, "NAT pool"},
		{foot(func(a *Attachment) { a.Routes = []AttachmentRoute{{Prefix: prefix("10.1.1.0/24")}} }), ErrConflict, "own VSID 5001"},
		{append(foot(func(*Attachment) {}), attachment("fabrikam", "dc", "198.51.100.2/32")), ErrConflict, "outside, an address is one tenant's"},
		{[]Object{bgpPeer("contoso", "r1", "169.254.0.2", 65001)}, ErrNotFound, "no BGP router"},
		{[]Object{router("contoso", 0)}, ErrInvalid, "0 is no AS number"},
		{[]Object{router("contoso", 23456)}, ErrInvalid, "23456"},
		{[]Object{router("contoso", 64512), bgpPeer("contoso", "r1", "169.254.0.2", 23456)}, ErrInvalid, "23456"},
		{append(conn(func(*S2SConnection) {}), router("contoso", 64512), bgpPeer("contoso", "r1", "169.254.0.1", 65001)), ErrConflict, "compartment's own address"},
		{[]Object{router("contoso", 64512), bgpPeer("contoso", "r1", "169.254.0.2", 65001), bgpPeer("contoso", "r2", "169.254.0.2", 65001)}, ErrConflict, "already"},
		{[]Object{router("nobody", 64512)}, ErrNotFound, "does not exist"},
	} {
		f := base(t)
		before := dump(f)
		var changes []Change
		for _, o := range c.put {
			changes = append(changes, Change{Put: o})
		}
		_, err := f.Apply(changes)
		if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("case %d: %v; want %v with %q", i, err, c.kind, c.want)
		}
		if dump(f) != before {
			t.Errorf("case %d left\n%s", i, dump(f))
		}
	}
}

// What a site has besides the tenant's own prefixes, or under others by a map, is
// let in: the longest prefix decides.
func TestWideSitePrefixes(t *testing.T) {
	f := base(t)
	c := connection("contoso", "hq", 1, 2)
	c.Peers[0].Prefixes = []netip.Prefix{prefix("10.0.0.0/8"), prefix("172.16.1.0/24")}
	c.RemoteMaps = []PrefixMap{{prefix("172.16.0.0/16"), prefix("10.9.0.0/16")}}
	if _, err := f.Apply([]Change{{Put: c}}); err != nil {
		t.Error(err)
	}
}

// What others depend on cannot go before them, and all goes with the tenant.
func TestWaysOutDepend(t *testing.T) {
	f := base(t)
	c := connection("contoso", "hq", 1, 2)
	if _, err := f.Apply([]Change{{Put: bgpPeer("contoso", "r1", "169.254.0.2", 65001)}, {Put: router("contoso", 64512)}, {Put: c}, {Put: attachment("contoso", "dc", "198.51.100.1/32")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Apply([]Change{{Delete: router("contoso", 0)}}); !errors.Is(err, ErrInUse) && !errors.Is(err, ErrNotFound) {
		t.Errorf("deleting the router of a peer: %v", err)
	}
	x, _ := f.Tenant(c.Tenant)
	x.Gateway = nil
	if _, err := f.Apply([]Change{{Put: x}, {Delete: mapping("contoso", "203.0.113.10:443", "10.1.1.11:443")}}); !errors.Is(err, ErrInUse) {
		t.Errorf("taking the gateway away: %v", err)
	}
	cs, err := f.Cascade(c.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Apply(cs); err != nil {
		t.Fatal(err)
	}
	for _, k := range []Kind{KindAttachment, KindS2SConnection, KindBGPRouter, KindBGPPeer} {
		if left := f.List(k); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// The hooks see the state as it would be, and their word stands.
func TestSiteChecks(t *testing.T) {
	s := site
	asked := 0
	s.Checks = []func(*Fabric, Name) error{func(f *Fabric, n Name) error {
		asked++
		if len(f.Connections(n)) > 1 {
			return errors.New("one is enough")
		}
		return nil
	}}
	f := NewFabric(s)
	if _, err := f.Apply([]Change{{Put: tenant("contoso", 5001, "203.0.113.10")}}); err != nil || asked != 0 {
		t.Fatalf("asked %d times: %v", asked, err)
	}
	if _, err := f.Apply([]Change{{Put: connection("contoso", "hq", 1, 2)}}); err != nil || asked != 1 {
		t.Fatalf("asked %d times: %v", asked, err)
	}
	two := connection("contoso", "branch", 3, 2)
	two.Addresses = nil
	if _, err := f.Apply([]Change{{Put: two}}); err == nil || !strings.Contains(err.Error(), "one is enough") {
		t.Errorf("refused by a hook: %v", err)
	}
}

// What is stored and does not fit the machine any more is set aside: it is shown, in
// nobody's way, can be replaced and deleted, and comes back when it fits.
func TestSetAside(t *testing.T) {
	before := Site{Uplinks: []string{"internet", "dc"}, PAInterfaces: site.PAInterfaces, UplinkKinds: map[string]string{"dc": UplinkMACVLAN}}
	now := Site{Uplinks: []string{"internet", "dc"}, PAInterfaces: site.PAInterfaces, UplinkKinds: map[string]string{"dc": UplinkVLAN}}
	foot := attachment("contoso", "dc", "198.51.100.2/24")
	foot.Uplink = "dc"
	hq := connection("contoso", "hq", 1, 2)
	hq.LocalAddress = addr("198.51.100.2")
	tor := bgpPeer("contoso", "tor", "198.51.100.1", 65100)
	tor.Local = addr("198.51.100.2")
	stored := []Object{
		tenant("contoso", 5001, "203.0.113.10"), tenant("fabrikam", 6001, "203.0.113.20"), foot, hq, connection("contoso", "branch", 3, 4),
		router("contoso", 64512), tor, bgpPeer("contoso", "hq", "169.254.0.2", 65001),
	}
	f := NewFabric(before)
	var all []Change
	for _, o := range stored {
		all = append(all, Change{Put: o})
	}
	if _, err := f.Apply(all); err != nil {
		t.Fatal(err)
	}
	load := func() *Fabric {
		t.Helper()
		g := NewFabric(now)
		for _, k := range Kinds() {
			for _, o := range f.List(k) {
				if err := g.Load([]Change{{Put: o}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		return g
	}
	contoso := must(ParseName("contoso"))
	keys := func(f *Fabric) (out []string) {
		for _, s := range f.Aside(contoso) {
			out = append(out, s.Key())
		}
		return out
	}
	g := load()
	if got := strings.Join(keys(g), " "); got != "contoso/dc contoso/hq contoso/tor" || !strings.Contains(g.Aside(contoso)[0].Why.Error(), "give the VLAN") {
		t.Fatalf("aside are %s", got)
	}
	if len(g.Attachments(contoso)) != 0 || len(g.Connections(contoso)) != 1 || len(g.BGPPeers(contoso)) != 1 || len(g.Aside(must(ParseName("fabrikam")))) != 0 {
		t.Error("what does not fit is made, or what fits is not")
	}
	for _, k := range Kinds() {
		if len(g.List(k)) != len(f.List(k)) {
			t.Errorf("%s: %d are listed, of %d", k, len(g.List(k)), len(f.List(k)))
		}
	}
	if _, ok := g.Get(KindAttachment, foot.Key()); !ok {
		t.Error("it is not found")
	}
	apply := func(changes ...Change) (undo func()) {
		t.Helper()
		undo, err := g.Apply(changes)
		if err != nil {
			t.Fatal(err)
		}
		return undo
	}
	// Others are not held up, it cannot be made, and the tenant does not lose it.
	apply(Change{Put: connection("fabrikam", "hq", 5, 6)}, Change{Put: connection("contoso", "third", 7, 8)})
	alone, _ := g.Tenant(contoso)
	alone.Gateway = nil
	for _, c := range []Change{{Put: foot}, {Put: foot, Create: true}, {Put: alone}, {Delete: alone}} {
		if _, err := g.Apply([]Change{c}); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	if len(keys(g)) != 3 {
		t.Errorf("aside are %v", keys(g))
	}
	// Deleted and undone, it is as before.
	undo := apply(Change{Delete: hq})
	if len(keys(g)) != 2 {
		t.Errorf("aside are %v", keys(g))
	}
	undo()
	if len(keys(g)) != 3 || len(g.Connections(contoso)) != 2 {
		t.Errorf("aside are %v", keys(g))
	}
	// Once it fits, what was aside because of it comes back too; and goes again.
	fits := foot
	fits.VLAN = 7
	undo = apply(Change{Put: fits})
	if len(keys(g)) != 0 || len(g.Attachments(contoso)) != 1 || len(g.Connections(contoso)) != 3 || len(g.BGPPeers(contoso)) != 2 {
		t.Errorf("aside are %v", keys(g))
	}
	undo()
	if len(keys(g)) != 3 || len(g.Attachments(contoso)) != 0 || len(g.Connections(contoso)) != 2 {
		t.Errorf("undone, aside are %v", keys(g))
	}
	g = load()
	cascade, err := g.Cascade(contoso)
	if err != nil {
		t.Fatal(err)
	}
	apply(cascade...)
	if _, ok := g.Tenant(contoso); ok || len(g.List(KindAttachment))+len(g.List(KindBGPPeer)) != 0 {
		t.Error("something is left of the tenant")
	}
	// What was never right is no matter of the machine.
	if err := g.Load([]Change{{Put: attachment("nobody", "dc", "198.51.100.2/24")}}); err == nil {
		t.Error("an attachment of nobody's was loaded")
	}
	lost := tenant("contoso", 5001, "203.0.113.10")
	lost.Gateway.Uplink = "gone"
	if _, err := g.Apply([]Change{{Put: lost}}); err == nil {
		t.Error("an uplink that is not there was taken")
	}
	if err := g.Load([]Change{{Put: lost}}); err != nil {
		t.Error(err)
	}
}
