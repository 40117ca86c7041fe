package client

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// Apply creates or replaces all objects of a document, or none.
func (c *Client) Apply(ctx context.Context, d *v1.Document, dryRun bool) (v1.ApplyResult, error) {
	return send[v1.ApplyResult](ctx, c, http.MethodPost, with(path("apply"), "dryRun", boolText(dryRun)), d)
}

// Diff tells what Apply would do, with the objects before and after.
func (c *Client) Diff(ctx context.Context, d *v1.Document) (v1.ApplyResult, error) {
	return send[v1.ApplyResult](ctx, c, http.MethodPost, with(path("apply"), "dryRun", "true", "diff", "true"), d)
}

// Export gives everything that is configured; with the provider addresses of a
// host only what that host needs.
func (c *Client) Export(ctx context.Context, host ...string) (v1.Document, error) {
	return get[v1.Document](ctx, c, with(path("export"), "host", strings.Join(host, ",")))
}

// Status gives the state of the gateway and its tenants.
func (c *Client) Status(ctx context.Context) (v1.GatewayStatus, error) {
	return get[v1.GatewayStatus](ctx, c, path("status"))
}

// TenantStatus gives the state of one tenant.
func (c *Client) TenantStatus(ctx context.Context, name string) (v1.TenantStatus, error) {
	return get[v1.TenantStatus](ctx, c, path("tenants", name, "status"))
}

// Compartments lists the compartments.
func (c *Client) Compartments(ctx context.Context) ([]v1.Compartment, error) {
	l, err := get[v1.CompartmentList](ctx, c, path("compartments"))
	return l.Items, err
}

// NATSessions lists at most limit of a tenant's tracked connections; 0 leaves
// the limit to the gateway.
func (c *Client) NATSessions(ctx context.Context, tenant string, limit int) (v1.NATSessionList, error) {
	text := ""
	if limit > 0 {
		text = strconv.Itoa(limit)
	}
	return get[v1.NATSessionList](ctx, c, with(path("tenants", tenant, "nat-sessions"), "limit", text))
}

// Version tells what the gateway runs.
func (c *Client) Version(ctx context.Context) (v1.Version, error) {
	return get[v1.Version](ctx, c, path("version"))
}
