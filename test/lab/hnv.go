package lab

import "context"

// hnvHost is a host that runs gatewayd.
type hnvHost struct {
	lab *Lab
	h   Host
}

func (n *hnvHost) portMachine(string) string                               { return n.h.Name }
func (n *hnvHost) offloads() bool                                          { return true }
func (n *hnvHost) up(ctx context.Context) error                            { return nil }
func (n *hnvHost) attach(ctx context.Context, vm VM) error                 { return nil }
func (n *hnvHost) detach(ctx context.Context, vm VM) error                 { return nil }
func (n *hnvHost) setRecord(ctx context.Context, t Tenant, r Record) error { return nil }
