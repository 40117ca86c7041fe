//go:build privileged && linux

package scenario

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// TestDriftIsRepaired breaks contoso's compartment by hand, its NAT among the
// rest. As long as it is broken nothing untranslated comes out; gatewayd repairs
// it by itself and says what it found; fabrikam notices nothing of it.
func TestDriftIsRepaired(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	before := tenantStatus(t, "contoso").Repairs
	others := tenantStatus(t, "fabrikam").Repairs
	external := tenant(t, "contoso").External

	file := capturing(t, "inet", "gw0", "net 10.0.0.0/8", func() {
		for _, c := range []struct {
			machine string
			argv    string
		}{
			{world.Compartment("contoso"), "nft flush chain inet hnv srcnat"},
			{world.Compartment("contoso"), "ip addr del 10.254.254.2/29 dev wnv5000"},
			{"gw", "ip route del " + external.String() + "/32"},
		} {
			if _, err := world.Exec(ctx, c.machine, strings.Fields(c.argv)...); err != nil {
				t.Fatal(err)
			}
		}
		if err := world.Ping(ctx, "f11", internet(), patience); err != nil {
			t.Errorf("fabrikam, whom it does not concern: %v", err)
		}
		// One repair, or two where the first one came between the commands.
		missing := []string{"10.254.254.2/29", external.String() + "/32", "srcnat"}
		for len(missing) > 0 {
			_ = world.Ping(ctx, "c11", internet(), time.Second) // it may work again or not
			if s := tenantStatus(t, "contoso"); s.Repairs > before {
				what := strings.Join(s.LastRepair.What, "; ")
				missing = slices.DeleteFunc(missing, func(w string) bool { return strings.Contains(what, w) })
			}
			if ctx.Err() != nil {
				t.Fatalf("no repair of %q is reported", missing)
			}
		}
	})
	if rows := dissect(t, file, "", "ip.src", "ip.dst"); len(rows) > 0 {
		t.Errorf("while NAT was broken, the Internet saw %v", rows[0])
	}
	if err := world.Ping(ctx, "c11", internet(), patience); err != nil {
		t.Errorf("after the repair: %v", err)
	}
	if n := tenantStatus(t, "fabrikam").Repairs; n != others {
		t.Errorf("fabrikam was repaired %d times", n-others)
	}
}

func tenantStatus(t *testing.T, name string) v1.TenantStatus {
	t.Helper()
	s, err := world.Status(t.Context(), "gw")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range s.Tenants {
		if x.Name == name {
			return x
		}
	}
	t.Fatalf("the gateway knows of no tenant %s", name)
	return v1.TenantStatus{}
}
