//go:build privileged && linux

package scenario

import (
	"fmt"
	"sync"
	"testing"

	"github.com/hnvgate/hnvgate/test/lab"
)

// TestLearningLimit has a VM of each tenant announce more addresses than one of
// the tenants lets a port have, the same in both: that one's port gets as many as
// it may have and no more, here and on the other machines, and the rest reach
// nobody; the other tenant's gets all of them.
func TestLearningLimit(t *testing.T) {
	const most, announced = 3, 6
	// Not those that other tests have learned of: how fast a port takes addresses is
	// bounded too, by the minute.
	limited, free := vm(t, "c11"), vm(t, "f11")
	learners(t, limited, free)
	for _, m := range gatewayds {
		ctl(t, m, "subnet", "set", limited.Tenant, limited.VSID.String(), "--learning", "--learn-max", fmt.Sprint(most), "--learn-age", "60s")
		ctl(t, m, "subnet", "set", free.Tenant, free.VSID.String(), "--learning", "--learn-age", "60s")
	}
	settled(t, gatewayds...)
	for n := range byte(announced) {
		for _, v := range []lab.VM{limited, free} {
			gain(t, v, addr4([4]byte{10, 1, 1, 60 + n}), true)
		}
	}
	pa := provider(t, world.Where("c11"))
	var wg sync.WaitGroup
	for n := range byte(announced) {
		ca := addr4([4]byte{10, 1, 1, 60 + n})
		within := n < most
		learned(t, free, ca, pa, gatewayds...)
		learned(t, limited, ca, map[bool]string{true: pa}[within], gatewayds...)
		wg.Go(func() {
			if err := world.Ping(t.Context(), "f13", ca, patience); err != nil {
				t.Error(err)
			}
			timeout := silence
			if within {
				timeout = patience
			}
			if err := world.Ping(t.Context(), "c13", ca, timeout); (err == nil) != within {
				t.Errorf("c13 to %s: answered is %v, want %v (%v)", ca, err == nil, within, err)
			}
		})
	}
	wg.Wait()
}
