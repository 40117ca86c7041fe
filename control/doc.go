// Package control brings the machine in line with the desired state and keeps
// it there.
//
// Each tenant has a goroutine of its own that computes what the engines should
// have (desired.go, pure), hands it to them in an order in which nothing leaks
// (compartment, NAT, then the dataplane port), records how that went, and
// comes back when the state changes, when an attempt failed (with back-off) and
// at regular intervals to repair drift. One tenant's failure or slowness holds
// no other back.
//
//	         change / retry / interval
//	              v
//	Pending --reconcile--> Ready <--> Degraded (drift found, repaired)
//	              |          ^
//	              `-> Error -' (back-off)        deleted -> teardown -> gone
//
// A tenant with site-to-site connections or BGP has a keeper beside that goroutine,
// which has the compartment's agent do its part (keeper.go): an agent that does not
// come up makes the tenant Degraded and holds nothing else of it up. What BGP learns
// comes back as customer routes to the compartment (learned.go).
//
// A change of lookup records alone does not go through that loop: it is written
// to the dataplane at once, so that a live migration takes effect with the next
// packet.
//
// The dataplane has a tenant's tables only where they are needed (hnv.Fabric.Here):
// from before its first port is plugged in until after the last is out. They are
// built anew when something other than a record of the tenant changed, not by time
// going by: each time its flows are decided again.
//
// Lock order: keeper.work before keeper.mu; tenant.apply before Controller.mu before the status lock (forget
// takes the first inside the second, but does not wait for it); the
// store's lock (View) is taken innermost and never held across an engine call.
//
// Only cmd/gatewayd imports control.
package control
