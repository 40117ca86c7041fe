package client

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// Tenants lists the tenants.
func (c *Client) Tenants(ctx context.Context) ([]v1.Tenant, error) {
	l, err := get[v1.TenantList](ctx, c, path("tenants"))
	return l.Items, err
}

// Tenant reads one tenant; etag is for IfMatch.
func (c *Client) Tenant(ctx context.Context, name string) (t v1.Tenant, etag string, err error) {
	return read[v1.Tenant](ctx, c, path("tenants", name))
}

// CreateTenant creates a tenant and gives it with defaults filled in.
func (c *Client) CreateTenant(ctx context.Context, t v1.Tenant) (v1.Tenant, error) {
	return send[v1.Tenant](ctx, c, http.MethodPost, path("tenants"), t)
}

// PutTenant creates or replaces a tenant.
func (c *Client) PutTenant(ctx context.Context, t v1.Tenant, opts ...Option) (v1.Tenant, error) {
	return send[v1.Tenant](ctx, c, http.MethodPut, path("tenants", t.Name), t, opts...)
}

// DeleteTenant deletes a tenant, with cascade and all that belongs to it.
func (c *Client) DeleteTenant(ctx context.Context, name string, cascade bool, opts ...Option) (v1.DeleteResult, error) {
	return send[v1.DeleteResult](ctx, c, http.MethodDelete, with(path("tenants", name), "cascade", boolText(cascade)), nil, opts...)
}

// ACLs lists the ACLs, of one tenant if named.
func (c *Client) ACLs(ctx context.Context, tenant string) ([]v1.ACL, error) {
	l, err := get[v1.ACLList](ctx, c, with(path("acls"), "tenant", tenant))
	return l.Items, err
}

// ACL reads one ACL.
func (c *Client) ACL(ctx context.Context, tenant, name string) (a v1.ACL, etag string, err error) {
	return read[v1.ACL](ctx, c, path("acls", tenant, name))
}

// CreateACL creates an ACL.
func (c *Client) CreateACL(ctx context.Context, a v1.ACL) (v1.ACL, error) {
	return send[v1.ACL](ctx, c, http.MethodPost, path("acls"), a)
}

// PutACL creates or replaces an ACL.
func (c *Client) PutACL(ctx context.Context, a v1.ACL, opts ...Option) (v1.ACL, error) {
	return send[v1.ACL](ctx, c, http.MethodPut, path("acls", a.Tenant, a.Name), a, opts...)
}

// DeleteACL deletes an ACL that nothing names any more.
func (c *Client) DeleteACL(ctx context.Context, tenant, name string, opts ...Option) error {
	return c.remove(ctx, path("acls", tenant, name), opts)
}

// CustomerRoutes lists the customer routes, of one tenant if named.
func (c *Client) CustomerRoutes(ctx context.Context, tenant string) ([]v1.CustomerRoute, error) {
	l, err := get[v1.CustomerRouteList](ctx, c, with(path("customer-routes"), "tenant", tenant))
	return l.Items, err
}

// CreateCustomerRoute creates a customer route.
func (c *Client) CreateCustomerRoute(ctx context.Context, r v1.CustomerRoute) (v1.CustomerRoute, error) {
	return send[v1.CustomerRoute](ctx, c, http.MethodPost, path("customer-routes"), r)
}

// PutCustomerRoute creates or replaces a customer route.
func (c *Client) PutCustomerRoute(ctx context.Context, r v1.CustomerRoute, opts ...Option) (v1.CustomerRoute, error) {
	return send[v1.CustomerRoute](ctx, c, http.MethodPut, customerRoutePath(r), r, opts...)
}

// DeleteCustomerRoute deletes the customer route with the VSID, prefix and next
// hop of r.
func (c *Client) DeleteCustomerRoute(ctx context.Context, r v1.CustomerRoute, opts ...Option) error {
	return c.remove(ctx, customerRoutePath(r), opts)
}

func customerRoutePath(r v1.CustomerRoute) string {
	addr, length := cut(r.Prefix)
	return path("customer-routes", number(r.VSID), addr, length, r.NextHop)
}

// ProviderAddresses lists the provider addresses.
func (c *Client) ProviderAddresses(ctx context.Context) ([]v1.ProviderAddress, error) {
	l, err := get[v1.ProviderAddressList](ctx, c, path("provider-addresses"))
	return l.Items, err
}

// CreateProviderAddress creates a provider address.
func (c *Client) CreateProviderAddress(ctx context.Context, p v1.ProviderAddress) (v1.ProviderAddress, error) {
	return send[v1.ProviderAddress](ctx, c, http.MethodPost, path("provider-addresses"), p)
}

// PutProviderAddress creates or replaces a provider address.
func (c *Client) PutProviderAddress(ctx context.Context, p v1.ProviderAddress, opts ...Option) (v1.ProviderAddress, error) {
	addr, _ := cut(p.Address)
	return send[v1.ProviderAddress](ctx, c, http.MethodPut, path("provider-addresses", addr), p, opts...)
}

// DeleteProviderAddress deletes a provider address, with or without its length.
func (c *Client) DeleteProviderAddress(ctx context.Context, address string, opts ...Option) error {
	addr, _ := cut(address)
	return c.remove(ctx, path("provider-addresses", addr), opts)
}

// ProviderRoutes lists the provider routes.
func (c *Client) ProviderRoutes(ctx context.Context) ([]v1.ProviderRoute, error) {
	l, err := get[v1.ProviderRouteList](ctx, c, path("provider-routes"))
	return l.Items, err
}

// CreateProviderRoute creates a provider route.
func (c *Client) CreateProviderRoute(ctx context.Context, r v1.ProviderRoute) (v1.ProviderRoute, error) {
	return send[v1.ProviderRoute](ctx, c, http.MethodPost, path("provider-routes"), r)
}

// PutProviderRoute creates or replaces a provider route.
func (c *Client) PutProviderRoute(ctx context.Context, r v1.ProviderRoute, opts ...Option) (v1.ProviderRoute, error) {
	return send[v1.ProviderRoute](ctx, c, http.MethodPut, providerRoutePath(r), r, opts...)
}

// DeleteProviderRoute deletes the provider route with the prefix and next hop
// of r.
func (c *Client) DeleteProviderRoute(ctx context.Context, r v1.ProviderRoute, opts ...Option) error {
	return c.remove(ctx, providerRoutePath(r), opts)
}

func providerRoutePath(r v1.ProviderRoute) string {
	addr, length := cut(r.Prefix)
	return path("provider-routes", addr, length, r.NextHop)
}

// Ports lists the VM ports.
func (c *Client) Ports(ctx context.Context) ([]v1.Port, error) {
	l, err := get[v1.PortList](ctx, c, path("ports"))
	return l.Items, err
}

// Port reads one VM port.
func (c *Client) Port(ctx context.Context, ifname string) (p v1.Port, etag string, err error) {
	return read[v1.Port](ctx, c, path("ports", ifname))
}

// CreatePort creates a VM port.
func (c *Client) CreatePort(ctx context.Context, p v1.Port) (v1.Port, error) {
	return send[v1.Port](ctx, c, http.MethodPost, path("ports"), p)
}

// PutPort creates or replaces a VM port.
func (c *Client) PutPort(ctx context.Context, p v1.Port, opts ...Option) (v1.Port, error) {
	return send[v1.Port](ctx, c, http.MethodPut, path("ports", p.Interface), p, opts...)
}

// DeletePort deletes a VM port.
func (c *Client) DeletePort(ctx context.Context, ifname string, opts ...Option) error {
	return c.remove(ctx, path("ports", ifname), opts)
}

// NATMappings lists the static mappings, of one tenant if named.
func (c *Client) NATMappings(ctx context.Context, tenant string) ([]v1.NATMapping, error) {
	l, err := get[v1.NATMappingList](ctx, c, with(path("nat-mappings"), "tenant", tenant))
	return l.Items, err
}

// CreateNATMapping creates a static mapping.
func (c *Client) CreateNATMapping(ctx context.Context, m v1.NATMapping) (v1.NATMapping, error) {
	return send[v1.NATMapping](ctx, c, http.MethodPost, path("nat-mappings"), m)
}

// NATMapping reads one static mapping.
func (c *Client) NATMapping(ctx context.Context, proto, external string) (m v1.NATMapping, etag string, err error) {
	return read[v1.NATMapping](ctx, c, path("nat-mappings", proto, external))
}

// PutNATMapping creates or replaces a static mapping.
func (c *Client) PutNATMapping(ctx context.Context, m v1.NATMapping, opts ...Option) (v1.NATMapping, error) {
	return send[v1.NATMapping](ctx, c, http.MethodPut, path("nat-mappings", m.Proto, m.External), m, opts...)
}

// DeleteNATMapping deletes a static mapping.
func (c *Client) DeleteNATMapping(ctx context.Context, proto, external string, opts ...Option) error {
	return c.remove(ctx, path("nat-mappings", proto, external), opts)
}

func number(v uint32) string { return strconv.FormatUint(uint64(v), 10) }

// cut takes a prefix apart; a length that is missing is refused by the server.
func cut(prefix string) (addr, length string) {
	addr, length, ok := strings.Cut(prefix, "/")
	if !ok {
		length = "-"
	}
	return addr, length
}
