package server

import (
	"context"
	"net/netip"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// Store is the desired state; *store.Store is one.
type Store interface {
	// View calls fn with the present state, which fn must not change or keep.
	View(fn func(f *hnv.Fabric))
	// Revision is that of the present state.
	Revision() int64
	// UpdateFunc calls plan with the present state and carries out the changes it
	// returns, all or none, with nothing else in between; plan may be called
	// again when another writer came first. No changes: nothing is written.
	// An error of plan is returned as it is. A refusal wraps the hnv errors.
	UpdateFunc(ctx context.Context, plan func(f *hnv.Fabric) ([]hnv.Change, error)) (revision int64, err error)
	// CheckFunc tells what UpdateFunc would say, and writes nothing.
	CheckFunc(ctx context.Context, plan func(f *hnv.Fabric) ([]hnv.Change, error)) error
	// ImportFunc puts the lookup records that plan gives. They are checked
	// together first and written in transactions of bounded size: a failure of
	// the storage, and only that, can leave a part of them written. With check
	// nothing is written.
	ImportFunc(ctx context.Context, plan func(f *hnv.Fabric) ([]hnv.Change, error), check bool) (revision int64, err error)
}

// Backend is the gateway at work, as far as the API tells of it. Its methods
// may be called from several goroutines at once and must return soon: they
// report what is known rather than wait for what is slow.
type Backend interface {
	// Version tells what is running.
	Version() v1.Version
	// Status gives the state of the gateway and of all its tenants, sorted by
	// name, except StoreRevision, which the server fills in, and the tenants'
	// NAT.
	Status(ctx context.Context) (v1.GatewayStatus, error)
	// TenantStatus gives the state of one tenant, and what its NAT counts. A tenant of the store that is
	// not known yet is PhasePending, not an error; an unknown one wraps
	// hnv.ErrNotFound.
	TenantStatus(ctx context.Context, tenant hnv.Name) (v1.TenantStatus, error)
	// Compartments gives the state of the compartments, sorted by tenant.
	Compartments(ctx context.Context) ([]v1.Compartment, error)
	// DerivedRecords gives the lookup records of the compartments: what hosts
	// need to reach them, and nobody wrote.
	DerivedRecords() []hnv.Record
	// ForHost gives what a host with the provider addresses needs to be told and
	// nothing else, as it can be put into the host's state: each object after
	// those it depends on.
	ForHost(pas []netip.Addr) []hnv.Object
	// NATSessions gives at most limit of a tenant's tracked connections, and
	// whether there are more. A tenant without a compartment here, or without
	// NAT, wraps hnv.ErrNotFound with a sentence that says so.
	NATSessions(ctx context.Context, tenant hnv.Name, limit int) (sessions []v1.NATSession, more bool, err error)
	Diagnostics
	Sites
}
