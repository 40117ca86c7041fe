package control

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The wiring hears that all is there when all is there, and of a tenant that cannot
// be built only that it was waited for.
func TestSettled(t *testing.T) {
	m, e := newMemory(t), newEngines()
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")), put(theTenant("fabrikam", 6001, "203.0.113.11")))
	gate := make(chan struct{})
	e.block["compartment fabrikam"] = gate
	c := start(t, m, e)
	eventually(t, "contoso ready", ready(c, "contoso"))
	told := func() []int {
		e.mu.Lock()
		defer e.mu.Unlock()
		return slices.Clone(e.settled)
	}
	if got := told(); got != nil {
		t.Errorf("settled with %d ports while a tenant is still being built", got)
	}
	close(gate)
	eventually(t, "settled", func() bool { return told() != nil })
	if got := told(); !slices.Equal(got, []int{2}) {
		t.Errorf("settled with %d ports, want once with both", got)
	}
}

func TestSettledWithoutWhatFails(t *testing.T) { synctest.Test(t, settledWithoutWhatFails) }

func settledWithoutWhatFails(t *testing.T) {
	m, e := newMemory(t), newEngines()
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")), put(theTenant("fabrikam", 6001, "203.0.113.11")))
	e.fail["compartment fabrikam"] = errBroken
	c := startWith(t, m, e, func(o *Options) { o.SettleWithin = 100 * time.Millisecond })
	eventually(t, "contoso ready", ready(c, "contoso"))
	eventually(t, "settled without fabrikam", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return slices.Equal(e.settled, []int{1})
	})
}
