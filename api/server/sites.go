package server

import (
	"context"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// Sites tells of what leads tenants elsewhere than to the Internet: attachments,
// site-to-site connections and BGP. An object of the store that is not known yet is
// PhasePending, not an error; one that is not there wraps hnv.ErrNotFound, and what
// a request says wrongly hnv.ErrInvalid. None of the answers holds a secret.
type Sites interface {
	// Attachments gives the state of a tenant's attachments, sorted by name: of
	// the one with the name, or of all where it is unset.
	Attachments(ctx context.Context, tenant, name hnv.Name) ([]v1.AttachmentStatus, error)
	// S2SStatus gives the state of a tenant's connections, likewise.
	S2SStatus(ctx context.Context, tenant, name hnv.Name) ([]v1.S2SStatus, error)
	// PeerConfig gives what the other end of a connection needs, except BGP and
	// Router, which the server fills in.
	PeerConfig(ctx context.Context, tenant, name, peer hnv.Name) (v1.S2SPeerConfig, error)
	// BGPStatus gives the state of a tenant's speaker; of a tenant without one it
	// wraps hnv.ErrNotFound.
	BGPStatus(ctx context.Context, tenant hnv.Name) (v1.BGPStatus, error)
	// BGPRoutes gives at most q.Limit of a speaker's routes, and whether there are
	// more. q is well-formed.
	BGPRoutes(ctx context.Context, tenant hnv.Name, q v1.BGPRouteQuery) (routes []v1.BGPRoute, more bool, err error)
	// BGPSoftReset applies policies anew. The session goes on.
	BGPSoftReset(ctx context.Context, tenant hnv.Name, r v1.BGPSoftReset) error
	// Path tells which way packets out of a tenant's virtual network take. q is
	// well-formed.
	Path(ctx context.Context, tenant hnv.Name, q v1.PathQuery) (v1.PathExplanation, error)
}
