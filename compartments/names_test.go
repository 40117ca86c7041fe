package compartments

import (
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

func TestNamesFit(t *testing.T) {
	n := names{strings.Repeat("i", 32)}
	if err := n.check(); err != nil {
		t.Fatal(err)
	}
	v, err := hnv.NewVSID(hnv.MaxVSID)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{n.overlayPeer(v), n.uplinkPeer(v), n.steerIn(), n.steerOut(), OverlayLink(v),
		ProviderLink(hnv.ProviderAddress{Interface: "enp130s0f1np123", VLAN: 4094})} {
		if len(l) > 15 {
			t.Errorf("link name %s has %d characters", l, len(l))
		}
	}
	tenant := tenantName(t, strings.Repeat("t", hnv.MaxName))
	if a := n.alias(tenant.String(), "wnv"); len(a) > 255 {
		t.Errorf("alias of %d bytes", len(a))
	}
	for _, bad := range []string{"", "A", "a b", "a/b", "a:b", "-a", "a-", strings.Repeat("i", 33), "ä"} {
		if (names{bad}).check() == nil {
			t.Errorf("instance name %q was taken", bad)
		}
	}
}

func TestAliasTellsTheTenant(t *testing.T) {
	n := names{"hnv"}
	if got, role, ok := n.tenant(n.alias("contoso", "wnv")); !ok || got.String() != "contoso" || role != "wnv" {
		t.Errorf("%v %v %v", got, role, ok)
	}
	for _, alias := range []string{"", "hnv", "hnv:other:contoso:wnv", "hnv:hnv:contoso", "hnv:hnv::steer", n.providerAlias(), "hnv:hnv-2:contoso:wnv"} {
		if got, _, ok := n.tenant(alias); ok {
			t.Errorf("alias %q is said to be of %s", alias, got)
		}
	}
}

func TestOwnLinksAreKnown(t *testing.T) {
	n, other, v := names{"hnv"}, names{"hnv-2"}, vsid(t, 5000)
	for _, l := range []string{n.overlayPeer(v), n.uplinkPeer(v), n.steerIn(), n.steerOut()} {
		if !n.reserved(l) {
			t.Errorf("%s is not known as ours", l)
		}
	}
	for _, l := range []string{"vm0", "web0", "h1", "wnv5000", other.overlayPeer(v), other.steerIn()} {
		if n.reserved(l) {
			t.Errorf("%s is taken for ours", l)
		}
	}
	for alias, want := range map[string]bool{n.alias("contoso", "wnv"): true, n.providerAlias(): true, n.alias("", "steer"): true,
		"": false, "hnv:hnv": false, other.alias("contoso", "wnv"): false, "vm of hnv:hnv:": false} {
		if n.marks(alias) != want {
			t.Errorf("alias %q is ours: %v", alias, !want)
		}
	}
}

func TestProviderLink(t *testing.T) {
	for want, a := range map[string]hnv.ProviderAddress{
		"pa0":     {Interface: "pa0"},
		"pa0.100": {Interface: "pa0", VLAN: 100},
	} {
		if got := ProviderLink(a); got != want {
			t.Errorf("%+v is on %s, not %s", a, got, want)
		}
	}
}
