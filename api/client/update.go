package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// Option adds to a request that writes.
type Option func(http.Header)

// IfMatch has a write done only where the object is still the one that was read
// with this ETag; otherwise the *v1.Problem is of type v1.ProblemPrecondition.
func IfMatch(etag string) Option {
	return func(h http.Header) { h.Set("If-Match", etag) }
}

func headers(opts []Option) http.Header {
	h := http.Header{}
	for _, o := range opts {
		o(h)
	}
	return h
}

// maxAttempts is how often an update is tried against other writers; all
// together wait for about four seconds at most.
const maxAttempts = 24

// Busy tells that others changed an object again and again, so that an update
// never came through. Nothing was changed.
type Busy struct {
	Object string
	Err    error // what the last attempt was told
}

func (e *Busy) Error() string {
	return fmt.Sprintf("%s is changed by others again and again: gave up after %d attempts, nothing was changed; try again later", e.Object, maxAttempts)
}
func (e *Busy) Unwrap() error { return e.Err }

// update reads an object, lets change alter it, and writes it where nobody else
// wrote it in between, else begins anew. change may be called several times; an
// error of it ends the matter.
func update[T any](ctx context.Context, object string, read func() (T, string, error), change func(*T) error, put func(T, Option) (T, error)) (T, error) {
	var last error
	for i := range maxAttempts {
		if i > 0 {
			if err := pause(ctx, i); err != nil {
				return *new(T), err
			}
		}
		v, etag, err := read()
		if err != nil {
			return v, err
		}
		if err := change(&v); err != nil {
			return v, err
		}
		v, err = put(v, IfMatch(etag))
		var p *v1.Problem
		if !errors.As(err, &p) || p.Type != v1.ProblemPrecondition {
			return v, err
		}
		last = err
	}
	return *new(T), &Busy{object, last}
}

// pause waits longer the more attempts failed, and not as long as others do.
func pause(ctx context.Context, attempt int) error {
	longest := min(time.Duration(attempt)*10*time.Millisecond, 200*time.Millisecond)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rand.N(longest)):
		return nil
	}
}

// UpdateTenant changes a tenant without losing what others change meanwhile.
// change may be called several times, each time with the tenant as it is then.
func (c *Client) UpdateTenant(ctx context.Context, name string, change func(*v1.Tenant) error) (v1.Tenant, error) {
	return update(ctx, "tenant "+name,
		func() (v1.Tenant, string, error) { return c.Tenant(ctx, name) }, change,
		func(t v1.Tenant, o Option) (v1.Tenant, error) { return c.PutTenant(ctx, t, o) })
}

// UpdateRecord changes a lookup record likewise; address is its CA, or for
// l2only its MAC.
func (c *Client) UpdateRecord(ctx context.Context, vsid uint32, address string, change func(*v1.LookupRecord) error) (v1.LookupRecord, error) {
	return update(ctx, "lookup record "+number(vsid)+"/"+address,
		func() (v1.LookupRecord, string, error) { return c.Record(ctx, vsid, address) }, change,
		func(r v1.LookupRecord, o Option) (v1.LookupRecord, error) { return c.PutRecord(ctx, r, o) })
}

// UpdatePort changes a VM port likewise.
func (c *Client) UpdatePort(ctx context.Context, ifname string, change func(*v1.Port) error) (v1.Port, error) {
	return update(ctx, "port "+ifname,
		func() (v1.Port, string, error) { return c.Port(ctx, ifname) }, change,
		func(p v1.Port, o Option) (v1.Port, error) { return c.PutPort(ctx, p, o) })
}

// UpdateACL changes an ACL likewise.
func (c *Client) UpdateACL(ctx context.Context, tenant, name string, change func(*v1.ACL) error) (v1.ACL, error) {
	return update(ctx, "ACL "+tenant+"/"+name,
		func() (v1.ACL, string, error) { return c.ACL(ctx, tenant, name) }, change,
		func(a v1.ACL, o Option) (v1.ACL, error) { return c.PutACL(ctx, a, o) })
}
