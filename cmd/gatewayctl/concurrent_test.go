package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

// Many people change one object at once, each something else of it; nobody's
// change is lost.
func TestManyWritersOfOneObject(t *testing.T) {
	socket, store := gateway(t)
	for _, line := range []string{
		"gatewayctl tenant add contoso --encap nvgre --subnet 5001=10.1.1.0/24",
		"gatewayctl acl add contoso web",
	} {
		if out := call(t, socket, line); strings.Contains(out, "[exit") {
			t.Fatal(out)
		}
	}
	const writers = 12
	var wg sync.WaitGroup
	do := func(format string, args ...any) {
		wg.Go(func() {
			if out := call(t, socket, fmt.Sprintf(format, args...)); strings.Contains(out, "[exit") {
				t.Error(out)
			}
		})
	}
	for i := range writers {
		do("gatewayctl acl rule add contoso web --priority %d --in --allow --proto tcp --dst-port %d", i+1, 1000+i)
		do("gatewayctl tenant set contoso --subnet %d=10.2.%d.0/24", 6000+i, i)
	}
	wg.Wait()
	store.View(func(f *hnv.Fabric) {
		contoso, err := hnv.ParseName("contoso")
		if err != nil {
			t.Fatal(err)
		}
		tenant, _ := f.Tenant(contoso)
		if n := len(tenant.Subnets); n != 1+writers {
			t.Errorf("%d of %d subnets were kept", n-1, writers)
		}
		if acls := f.TenantACLs(contoso); len(acls) != 1 || len(acls[0].Rules) != writers {
			t.Errorf("ACLs %+v, want one with %d rules", acls, writers)
		}
	})
}
