package control

import (
	"context"
	"encoding/json"
	"net/netip"

	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/compartments/agent"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/forwarder"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/nat"
	"github.com/hnvgate/hnvgate/store"
)

// Store is the desired state; *store.Store is one.
type Store interface {
	// View calls fn with the present state, which fn must not change or keep.
	View(fn func(f *hnv.Fabric))
	// Revision is that of the present state.
	Revision() int64
	// UpdateFunc carries out the changes that plan returns, all or none.
	UpdateFunc(ctx context.Context, plan func(f *hnv.Fabric) ([]hnv.Change, error)) (revision int64, err error)
	// Watch delivers the changes after the call, in order, until ctx ends.
	Watch(ctx context.Context) <-chan store.Event
	// Healthy is nil while the present state follows what is stored, and else
	// says why it cannot.
	Healthy() error
}

// Compartments makes network namespaces, their links and uplinks;
// *compartments.Engine is one.
type Compartments interface {
	Apply(ctx context.Context, s compartments.Spec) (compartments.Result, error)
	Delete(ctx context.Context, n hnv.Name) error
	Prune(ctx context.Context, keep []hnv.Name) (removed []string, err error)
	ApplyProvider(ctx context.Context, s compartments.ProviderSpec) (repaired []string, err error)
	// ProviderState tells where the addresses on the fabric are.
	ProviderState() compartments.ProviderState
	// WatchProvider gives word, until ctx ends, when Failover may have something to
	// do, which brings addresses to links that work.
	WatchProvider(ctx context.Context) (<-chan struct{}, error)
	Failover(ctx context.Context) (changed []string, err error)
	// Ping sends echo requests from one of this machine's provider addresses.
	Ping(ctx context.Context, s compartments.PingSpec, each func(compartments.PingReply)) (compartments.PingResult, error)
	// Claim keeps the tunnel packets of more virtual subnets from the machine's own
	// stack, beside those that ApplyProvider was told of.
	Claim(ctx context.Context, vsids []hnv.VSID) error
	// ApplyPorts makes exactly these interfaces safe to plug in: up, and out of
	// reach of the machine's own network stack. It tells which cannot be, and why.
	ApplyPorts(ctx context.Context, ifnames []string) map[string]error
	// Drops tells what the rules of the gateway's namespace have dropped.
	Drops() ([]compartments.Drop, error)
}

// NAT translates inside a compartment; *nat.Engine is one.
type NAT interface {
	Apply(ctx context.Context, s nat.Spec) (nat.Result, error)
	Remove(ctx context.Context, namespace string) error
	Sessions(ctx context.Context, namespace string, limit int) ([]nat.Session, int, error)
	Snapshot(ctx context.Context, namespace string) (nat.State, error)
}

// Forwarder has compartments' links in physical networks; *forwarder.Engine is one.
type Forwarder interface {
	Apply(ctx context.Context, s forwarder.Spec) (forwarder.Result, error)
	Snapshot(ctx context.Context, tenant hnv.Name, namespace string) ([]forwarder.LinkState, error)
}

// Explain tells the way that a compartment's kernel sends a packet;
// forwarder.Explain does.
type Explain func(ctx context.Context, namespace string, q forwarder.Query) (forwarder.Path, error)

// Agents runs what has to run inside compartments; *agent.Supervisor is one.
type Agents interface {
	// Apply has the compartment's agent run and do what is desired.
	Apply(ctx context.Context, c agent.Compartment, d agent.Desired) (agent.State, error)
	State(ctx context.Context, n hnv.Name) (agent.State, error)
	// Ask makes a request of a part of the agent.
	Ask(ctx context.Context, n hnv.Name, method, path string) (json.RawMessage, error)
	// Status tells of the process; false: there is none.
	Status(n hnv.Name) (agent.Status, bool)
	// Replace has the installed program take over.
	Replace(ctx context.Context, n hnv.Name) error
	// Remove ends the agent with what it made, Discard at once.
	Remove(ctx context.Context, c agent.Compartment) error
	Discard(ctx context.Context, n hnv.Name) error
	// Known names the tenants that have an agent, or what an earlier one left.
	Known() ([]hnv.Name, error)
}

// Dataplane holds the tables; *dataplane.Switch is one.
type Dataplane interface {
	Apply(t dataplane.Tenant) error
	Remove(r hnv.RDID)
	UpdateRecords(r hnv.RDID, put []hnv.Record, del []hnv.RecordKey) error
	Counters() []dataplane.TenantCounters
}

// Wiring connects Linux interfaces to the dataplane; *Wire is one.
type Wiring interface {
	// Provider serves the fabric.
	Provider(f FabricSide) error
	// Unreachable names the provider addresses of other hosts that do not work.
	Unreachable(pas []netip.Addr)
	// Attach makes the link a port; it does nothing when it is that already and
	// still works.
	Attach(spec dataplane.PortSpec, link string) error
	// Detach takes the port away, if it is there.
	Detach(name string)
	// Failed delivers the names of ports that stopped working by themselves.
	Failed() <-chan string
	// Settled tells it that it has been given once all that there was at the start.
	Settled() error
	// FabricPath and PortPath tell who forwards what arrives on an interface of the
	// fabric, or at a port, and why.
	FabricPath(link string) Path
	PortPath(name string) Path
}
