package client

import (
	"context"
	"net/http"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// Attachments lists the attachments, of one tenant if named.
func (c *Client) Attachments(ctx context.Context, tenant string) ([]v1.Attachment, error) {
	l, err := get[v1.AttachmentList](ctx, c, with(path("attachments"), "tenant", tenant))
	return l.Items, err
}

// Attachment reads one.
func (c *Client) Attachment(ctx context.Context, tenant, name string) (v v1.Attachment, etag string, err error) {
	return read[v1.Attachment](ctx, c, path("attachments", tenant, name))
}

// CreateAttachment creates one.
func (c *Client) CreateAttachment(ctx context.Context, v v1.Attachment) (v1.Attachment, error) {
	return send[v1.Attachment](ctx, c, http.MethodPost, path("attachments"), v)
}

// PutAttachment creates or replaces one.
func (c *Client) PutAttachment(ctx context.Context, v v1.Attachment, opts ...Option) (v1.Attachment, error) {
	return send[v1.Attachment](ctx, c, http.MethodPut, path("attachments", v.Tenant, v.Name), v, opts...)
}

// UpdateAttachment changes one without losing what others change meanwhile. change may
// be called several times, each time with the object as it is then.
func (c *Client) UpdateAttachment(ctx context.Context, tenant, name string, change func(*v1.Attachment) error) (v1.Attachment, error) {
	return update(ctx, "attachment "+tenant+"/"+name,
		func() (v1.Attachment, string, error) { return c.Attachment(ctx, tenant, name) }, change,
		func(v v1.Attachment, o Option) (v1.Attachment, error) { return c.PutAttachment(ctx, v, o) })
}

// DeleteAttachment deletes one.
func (c *Client) DeleteAttachment(ctx context.Context, tenant, name string, opts ...Option) error {
	return c.remove(ctx, path("attachments", tenant, name), opts)
}

// S2SConnections lists the site-to-site connections, of one tenant if named.
func (c *Client) S2SConnections(ctx context.Context, tenant string) ([]v1.S2SConnection, error) {
	l, err := get[v1.S2SConnectionList](ctx, c, with(path("s2s-connections"), "tenant", tenant))
	return l.Items, err
}

// S2SConnection reads one.
func (c *Client) S2SConnection(ctx context.Context, tenant, name string) (v v1.S2SConnection, etag string, err error) {
	return read[v1.S2SConnection](ctx, c, path("s2s-connections", tenant, name))
}

// CreateS2SConnection creates one, with a key where none is given.
func (c *Client) CreateS2SConnection(ctx context.Context, v v1.S2SConnection) (v1.S2SConnection, error) {
	return send[v1.S2SConnection](ctx, c, http.MethodPost, path("s2s-connections"), v)
}

// PutS2SConnection creates or replaces one.
func (c *Client) PutS2SConnection(ctx context.Context, v v1.S2SConnection, opts ...Option) (v1.S2SConnection, error) {
	return send[v1.S2SConnection](ctx, c, http.MethodPut, path("s2s-connections", v.Tenant, v.Name), v, opts...)
}

// UpdateS2SConnection changes one without losing what others change meanwhile. change may
// be called several times, each time with the object as it is then.
func (c *Client) UpdateS2SConnection(ctx context.Context, tenant, name string, change func(*v1.S2SConnection) error) (v1.S2SConnection, error) {
	return update(ctx, "site-to-site connection "+tenant+"/"+name,
		func() (v1.S2SConnection, string, error) { return c.S2SConnection(ctx, tenant, name) }, change,
		func(v v1.S2SConnection, o Option) (v1.S2SConnection, error) { return c.PutS2SConnection(ctx, v, o) })
}

// DeleteS2SConnection deletes one.
func (c *Client) DeleteS2SConnection(ctx context.Context, tenant, name string, opts ...Option) error {
	return c.remove(ctx, path("s2s-connections", tenant, name), opts)
}

// BGPRouters lists the BGP routers, of one tenant if named.
func (c *Client) BGPRouters(ctx context.Context, tenant string) ([]v1.BGPRouter, error) {
	l, err := get[v1.BGPRouterList](ctx, c, with(path("bgp-routers"), "tenant", tenant))
	return l.Items, err
}

// BGPRouter reads one.
func (c *Client) BGPRouter(ctx context.Context, tenant string) (v v1.BGPRouter, etag string, err error) {
	return read[v1.BGPRouter](ctx, c, path("bgp-routers", tenant))
}

// CreateBGPRouter creates one.
func (c *Client) CreateBGPRouter(ctx context.Context, v v1.BGPRouter) (v1.BGPRouter, error) {
	return send[v1.BGPRouter](ctx, c, http.MethodPost, path("bgp-routers"), v)
}

// PutBGPRouter creates or replaces one.
func (c *Client) PutBGPRouter(ctx context.Context, v v1.BGPRouter, opts ...Option) (v1.BGPRouter, error) {
	return send[v1.BGPRouter](ctx, c, http.MethodPut, path("bgp-routers", v.Tenant), v, opts...)
}

// UpdateBGPRouter changes one without losing what others change meanwhile. change may
// be called several times, each time with the object as it is then.
func (c *Client) UpdateBGPRouter(ctx context.Context, tenant string, change func(*v1.BGPRouter) error) (v1.BGPRouter, error) {
	return update(ctx, "BGP router of tenant "+tenant,
		func() (v1.BGPRouter, string, error) { return c.BGPRouter(ctx, tenant) }, change,
		func(v v1.BGPRouter, o Option) (v1.BGPRouter, error) { return c.PutBGPRouter(ctx, v, o) })
}

// DeleteBGPRouter deletes one.
func (c *Client) DeleteBGPRouter(ctx context.Context, tenant string, opts ...Option) error {
	return c.remove(ctx, path("bgp-routers", tenant), opts)
}

// BGPPeers lists the BGP peers, of one tenant if named.
func (c *Client) BGPPeers(ctx context.Context, tenant string) ([]v1.BGPPeer, error) {
	l, err := get[v1.BGPPeerList](ctx, c, with(path("bgp-peers"), "tenant", tenant))
	return l.Items, err
}

// BGPPeer reads one.
func (c *Client) BGPPeer(ctx context.Context, tenant, name string) (v v1.BGPPeer, etag string, err error) {
	return read[v1.BGPPeer](ctx, c, path("bgp-peers", tenant, name))
}

// CreateBGPPeer creates one.
func (c *Client) CreateBGPPeer(ctx context.Context, v v1.BGPPeer) (v1.BGPPeer, error) {
	return send[v1.BGPPeer](ctx, c, http.MethodPost, path("bgp-peers"), v)
}

// PutBGPPeer creates or replaces one.
func (c *Client) PutBGPPeer(ctx context.Context, v v1.BGPPeer, opts ...Option) (v1.BGPPeer, error) {
	return send[v1.BGPPeer](ctx, c, http.MethodPut, path("bgp-peers", v.Tenant, v.Name), v, opts...)
}

// UpdateBGPPeer changes one without losing what others change meanwhile. change may
// be called several times, each time with the object as it is then.
func (c *Client) UpdateBGPPeer(ctx context.Context, tenant, name string, change func(*v1.BGPPeer) error) (v1.BGPPeer, error) {
	return update(ctx, "BGP peer "+tenant+"/"+name,
		func() (v1.BGPPeer, string, error) { return c.BGPPeer(ctx, tenant, name) }, change,
		func(v v1.BGPPeer, o Option) (v1.BGPPeer, error) { return c.PutBGPPeer(ctx, v, o) })
}

// DeleteBGPPeer deletes one.
func (c *Client) DeleteBGPPeer(ctx context.Context, tenant, name string, opts ...Option) error {
	return c.remove(ctx, path("bgp-peers", tenant, name), opts)
}

// ExportS2SKey gives the private key of a connection, or the pre-shared key of one
// of its peers. It is a secret.
func (c *Client) ExportS2SKey(ctx context.Context, tenant, name, peer string) (v1.S2SKey, error) {
	return send[v1.S2SKey](ctx, c, http.MethodPost, path("s2s-connections", tenant, name, "export-key"), v1.S2SKeyRequest{Peer: peer})
}

// S2SPeerConfig gives what the other end of a connection needs; bgp, unless empty,
// names its router, frr, bird or vyos, which is to advertise networks.
func (c *Client) S2SPeerConfig(ctx context.Context, tenant, name, peer, bgp string, networks ...string) (v1.S2SPeerConfig, error) {
	return get[v1.S2SPeerConfig](ctx, c, with(path("s2s-connections", tenant, name, "peers", peer, "config"), "bgp", bgp, "network", strings.Join(networks, ",")))
}
