package client

import (
	"context"
	"net/http"
	"strconv"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// AttachmentStatuses gives the state of a tenant's attachments.
func (c *Client) AttachmentStatuses(ctx context.Context, tenant string) ([]v1.AttachmentStatus, error) {
	l, err := get[v1.AttachmentStatusList](ctx, c, path("tenants", tenant, "attachments"))
	return l.Items, err
}

// AttachmentStatus gives that of one.
func (c *Client) AttachmentStatus(ctx context.Context, tenant, name string) (v1.AttachmentStatus, error) {
	return get[v1.AttachmentStatus](ctx, c, path("attachments", tenant, name, "status"))
}

// S2SStatuses gives the state of a tenant's site-to-site connections.
func (c *Client) S2SStatuses(ctx context.Context, tenant string) ([]v1.S2SStatus, error) {
	l, err := get[v1.S2SStatusList](ctx, c, path("tenants", tenant, "s2s"))
	return l.Items, err
}

// S2SStatus gives that of one.
func (c *Client) S2SStatus(ctx context.Context, tenant, name string) (v1.S2SStatus, error) {
	return get[v1.S2SStatus](ctx, c, path("s2s-connections", tenant, name, "status"))
}

// BGPStatus gives the state of a tenant's BGP speaker.
func (c *Client) BGPStatus(ctx context.Context, tenant string) (v1.BGPStatus, error) {
	return get[v1.BGPStatus](ctx, c, path("tenants", tenant, "bgp"))
}

// BGPRoutes lists routes of a tenant's BGP speaker; what q does not say is left to
// the gateway.
func (c *Client) BGPRoutes(ctx context.Context, tenant string, q v1.BGPRouteQuery) (v1.BGPRouteList, error) {
	limit := ""
	if q.Limit > 0 {
		limit = strconv.Itoa(q.Limit)
	}
	return get[v1.BGPRouteList](ctx, c, with(path("tenants", tenant, "bgp", "routes"), "table", q.Table, "peer", q.Peer, "within", q.Within, "limit", limit))
}

// BGPSoftReset applies the policies of a BGP peer anew.
func (c *Client) BGPSoftReset(ctx context.Context, tenant string, r v1.BGPSoftReset) error {
	_, err := c.call(ctx, http.MethodPost, path("tenants", tenant, "bgp", "soft-reset"), nil, r, nil)
	return err
}

// Path tells which way packets of a tenant leave its compartment.
func (c *Client) Path(ctx context.Context, tenant string, q v1.PathQuery) (v1.PathExplanation, error) {
	return get[v1.PathExplanation](ctx, c, with(path("tenants", tenant, "path"), "dst", q.Dst, "src", q.Src))
}
