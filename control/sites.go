package control

import (
	"context"
	"errors"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// errNotWired is told of what this gateway does not run yet.
var errNotWired = errors.New("attachments, site-to-site connections and BGP are not wired yet")

// Attachments tells of none.
func (c *Controller) Attachments(context.Context, hnv.Name, hnv.Name) ([]v1.AttachmentStatus, error) {
	return nil, nil
}

// S2SStatus tells of none.
func (c *Controller) S2SStatus(context.Context, hnv.Name, hnv.Name) ([]v1.S2SStatus, error) {
	return nil, nil
}

// PeerConfig is not wired yet.
func (c *Controller) PeerConfig(context.Context, hnv.Name, hnv.Name, hnv.Name) (v1.S2SPeerConfig, error) {
	return v1.S2SPeerConfig{}, errNotWired
}

// BGPStatus is not wired yet.
func (c *Controller) BGPStatus(context.Context, hnv.Name) (v1.BGPStatus, error) {
	return v1.BGPStatus{}, errNotWired
}

// BGPRoutes is not wired yet.
func (c *Controller) BGPRoutes(context.Context, hnv.Name, v1.BGPRouteQuery) ([]v1.BGPRoute, bool, error) {
	return nil, false, errNotWired
}

// BGPSoftReset is not wired yet.
func (c *Controller) BGPSoftReset(context.Context, hnv.Name, v1.BGPSoftReset) error {
	return errNotWired
}

// Path is not wired yet.
func (c *Controller) Path(context.Context, hnv.Name, v1.PathQuery) (v1.PathExplanation, error) {
	return v1.PathExplanation{}, errNotWired
}
