package client

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"strconv"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// RecordFilter chooses lookup records; what is unset chooses all.
type RecordFilter struct {
	Tenant string
	VSID   uint32
	CA     string // an address or a prefix
	Origin string // configured, gateway or subnet
}

// pageSize is how many records are fetched at once.
const pageSize = 5000

// RecordPage lists at most limit lookup records, from where the answer before it
// said that the list continues; 0 leaves the limit to the gateway.
func (c *Client) RecordPage(ctx context.Context, f RecordFilter, limit int, from string) (v1.LookupRecordList, error) {
	vsid, most := "", ""
	if f.VSID != 0 {
		vsid = number(f.VSID)
	}
	if limit > 0 {
		most = strconv.Itoa(limit)
	}
	return get[v1.LookupRecordList](ctx, c, with(path("lookup-records"),
		"tenant", f.Tenant, "vsid", vsid, "ca", f.CA, "origin", f.Origin, "limit", most, "continue", from))
}

// EachRecord gives the lookup records one by one and fetches them as they are
// needed, so that many of them never stand in memory at once. It ends with the
// first error.
func (c *Client) EachRecord(ctx context.Context, f RecordFilter) iter.Seq2[v1.LookupRecord, error] {
	return func(yield func(v1.LookupRecord, error) bool) {
		from := ""
		for {
			l, err := c.RecordPage(ctx, f, pageSize, from)
			if err != nil {
				yield(v1.LookupRecord{}, err)
				return
			}
			for _, r := range l.Items {
				if !yield(r, nil) {
					return
				}
			}
			if l.Continue == "" {
				return
			}
			if l.Continue == from {
				yield(v1.LookupRecord{}, errors.New("the gateway's list of lookup records does not go on"))
				return
			}
			from = l.Continue
		}
	}
}

// Records gives all of them at once.
func (c *Client) Records(ctx context.Context, f RecordFilter) ([]v1.LookupRecord, error) {
	out := []v1.LookupRecord{}
	for r, err := range c.EachRecord(ctx, f) {
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Record reads one lookup record; address is its CA, or for l2only its MAC.
func (c *Client) Record(ctx context.Context, vsid uint32, address string) (r v1.LookupRecord, etag string, err error) {
	return read[v1.LookupRecord](ctx, c, path("lookup-records", number(vsid), address))
}

// CreateRecord creates a lookup record.
func (c *Client) CreateRecord(ctx context.Context, r v1.LookupRecord) (v1.LookupRecord, error) {
	return send[v1.LookupRecord](ctx, c, http.MethodPost, path("lookup-records"), r)
}

// PutRecord creates or replaces a lookup record.
func (c *Client) PutRecord(ctx context.Context, r v1.LookupRecord, opts ...Option) (v1.LookupRecord, error) {
	address := r.CA
	if address == "" {
		address = r.MAC
	}
	return send[v1.LookupRecord](ctx, c, http.MethodPut, path("lookup-records", number(r.VSID), address), r, opts...)
}

// DeleteRecord deletes a lookup record; address is its CA, or for l2only its
// MAC.
func (c *Client) DeleteRecord(ctx context.Context, vsid uint32, address string, opts ...Option) error {
	return c.remove(ctx, path("lookup-records", number(vsid), address), opts)
}

// ImportRecords creates or replaces many lookup records.
func (c *Client) ImportRecords(ctx context.Context, records []v1.LookupRecord, dryRun bool) (v1.RecordImportResult, error) {
	return send[v1.RecordImportResult](ctx, c, http.MethodPost, with(path("lookup-records", "import"), "dryRun", boolText(dryRun)), v1.RecordImport{Items: records})
}
