package server

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func records() resource[v1.LookupRecord, v1.LookupRecordList] {
	return resource[v1.LookupRecord, v1.LookupRecordList]{
		path: "/v1/lookup-records", key: "/{vsid}/{address}", id: "lookup-record", noun: "lookup record", plural: "lookup-records", kind: hnv.KindRecord,
		item: recordItem,
		show: func(f *hnv.Fabric, o hnv.Object) v1.LookupRecord {
			return showRecord(f, o.(hnv.Record), v1.OriginConfigured)
		},
		list: func(items []v1.LookupRecord) v1.LookupRecordList { return v1.LookupRecordList{Items: items} },
	}
}

func showRecord(f *hnv.Fabric, r hnv.Record, origin string) v1.LookupRecord {
	t, _ := f.TenantOfVSID(r.VSID)
	return v1.NewLookupRecord(r, t.Name.String(), origin)
}

type recordKey struct {
	VSID    string `path:"vsid" doc:"Virtual subnet ID." example:"5001"`
	Address string `path:"address" doc:"Customer address; the MAC address for a record of type l2only." example:"10.1.1.11"`
}

func (k recordKey) object() (hnv.Object, error) {
	key, err := hnv.ParseRecordKey(k.VSID + "/" + k.Address)
	return hnv.Record{VSID: key.VSID, CA: key.CA, MAC: key.MAC}, err
}

type recordPut struct {
	VSID    string `path:"vsid" doc:"Virtual subnet ID." example:"5001"`
	Address string `path:"address" doc:"Customer address; the MAC address for a record of type l2only." example:"10.1.1.11"`
	Body    v1.LookupRecord
}

func (p recordPut) object() (hnv.Object, error) { return recordKey{p.VSID, p.Address}.object() }
func (p recordPut) body() v1.LookupRecord       { return p.Body }

type recordFilter struct {
	Tenant string `query:"tenant" doc:"Only records of this tenant." example:"contoso"`
	VSID   uint32 `query:"vsid" doc:"Only records of this virtual subnet." example:"5001"`
	CA     string `query:"ca" doc:"Only records of this customer address, or inside this prefix." example:"10.1.1.11"`
	Origin string `query:"origin" doc:"Only records of this origin." enum:"configured,gateway,subnet"`

	Limit    int    `query:"limit" doc:"How many at most in one answer." minimum:"1" maximum:"10000" default:"1000"`
	Continue string `query:"continue" doc:"Where to go on: what the answer before this one gave. The other parameters stay the same."`
}

type importInput struct {
	DryRun bool `query:"dryRun" doc:"Check everything and write nothing."`
	Body   v1.RecordImport
}

func (s *Server) registerRecords() {
	r := records()
	list := operation("list-lookup-records", http.MethodGet, r.path, r.plural, "List the lookup records")
	list.Description = "In pages: while an answer has continue, there are more. " +
		"The records of the compartments are among them, with origin gateway, and those that every virtual subnet has of itself, with origin subnet. " +
		"A tenant or virtual subnet that does not exist is refused."
	list.Errors = []int{http.StatusNotFound, http.StatusUnprocessableEntity}
	huma.Register(s.api, list, s.listRecords)
	r.registerCreate(s)
	huma.Register(s.api, r.getOperation(), s.getRecord)
	registerPut[recordPut](s, r)
	del := r.deleteOperation()
	del.DefaultStatus = http.StatusNoContent
	huma.Register(s.api, del, s.deleteRecord)

	imp := operation("import-lookup-records", http.MethodPost, r.path+"/import", r.plural, "Create or replace many lookup records")
	imp.Description = "All records are checked together before the first is written, so a refusal changes nothing. " +
		"They are then written in several transactions: should the storage fail half way, a part stays, which importing again completes. " +
		fmt.Sprintf("At most %d MiB.", maxImport>>20)
	imp.Errors = refusals
	imp.MaxBodyBytes, imp.BodyReadTimeout = maxImport, bulkTimeout
	huma.Register(s.api, imp, s.importRecords)
}

func (s *Server) getRecord(_ context.Context, in *recordKey) (*one[v1.LookupRecord], error) {
	want, err := in.object()
	if err != nil {
		return nil, s.refuse(err)
	}
	if v, tag, ok := records().find(s, want.Key()); ok {
		return &one[v1.LookupRecord]{tag, v}, nil
	}
	var out one[v1.LookupRecord]
	derived := s.backend.DerivedRecords()
	s.store.View(func(f *hnv.Fabric) {
		if r, origin := nobodys(f, derived, want); origin != "" {
			out.Body = showRecord(f, r, origin)
			out.ETag = etag(out.Body)
		}
	})
	if out.ETag == "" {
		return nil, s.refuse(absent("lookup record", want.Key()))
	}
	return &out, nil
}

// nobodys finds a record that nobody wrote; its origin is empty where there is
// none.
func nobodys(f *hnv.Fabric, derived []hnv.Record, want hnv.Object) (r hnv.Record, origin string) {
	for _, r := range derived {
		if r.Key() == want.Key() {
			return r, v1.OriginGateway
		}
	}
	if t, ok := f.TenantOfVSID(want.(hnv.Record).VSID); ok {
		for _, r := range f.SubnetRecords(t.Name) {
			if r.Key() == want.Key() {
				return r, v1.OriginSubnet
			}
		}
	}
	return r, ""
}

func (s *Server) deleteRecord(ctx context.Context, in *recordKey) (*deleted, error) {
	derived := s.backend.DerivedRecords()
	return remove(ctx, s, records(), *in, func(f *hnv.Fabric, want hnv.Object) error {
		if r, origin := nobodys(f, derived, want); origin != "" {
			return notWritable(f, r, origin)
		}
		return absent("lookup record", want.Key())
	})
}

func (s *Server) listRecords(_ context.Context, in *recordFilter) (*answer[v1.LookupRecordList], error) {
	page := recordPage{limit: in.Limit}
	var order uint64
	var err error
	if page.after, order, err = parseToken(in.Continue); err != nil {
		return nil, s.refuse(err)
	}
	if page.ca, err = parseCARange(in.CA); err != nil {
		return nil, s.refuse(err)
	}
	if page.origin, err = originFilter(in.Origin); err != nil {
		return nil, s.refuse(err)
	}
	var subnets []ownedSubnet
	s.store.View(func(f *hnv.Fabric) { subnets, err = in.subnets(f, page.after.key.VSID) })
	if err != nil {
		return nil, s.refuse(err)
	}
	derived := map[hnv.VSID][]listed{}
	for _, r := range s.backend.DerivedRecords() {
		derived[r.VSID] = append(derived[r.VSID], listed{place{r.RecordKey(), 1}, r})
	}
	var last *ordered
	for _, n := range subnets {
		if page.full() {
			break
		}
		from := page.ca.first(n.vsid)
		if page.after.key.Compare(from) > 0 {
			from = page.after.key
		}
		last = s.orderOf(n.vsid, page.ca, order)
		s.store.View(func(f *hnv.Fabric) { page.subnet(f, last.from(from), append(subnetsOwn(f, n), derived[n.vsid]...)) })
		if !page.full() {
			s.order.forget(last)
		}
	}
	var out answer[v1.LookupRecordList]
	s.store.View(func(f *hnv.Fabric) { out.Body = page.answer(f, last) })
	return &out, nil
}

// orderOf gives the keys to go through in a virtual subnet.
func (s *Server) orderOf(v hnv.VSID, ca caRange, id uint64) *ordered {
	if ca.prefix.IsValid() && ca.prefix.IsSingleIP() {
		return &ordered{vsid: v, keys: []hnv.RecordKey{ca.first(v)}}
	}
	return s.order.of(s.store, v, id)
}

// subnetsOwn gives what a virtual subnet has of itself.
func subnetsOwn(f *hnv.Fabric, s ownedSubnet) (out []listed) {
	for _, r := range f.SubnetRecords(s.tenant) {
		if r.VSID == s.vsid {
			out = append(out, listed{place{r.RecordKey(), 2}, r})
		}
	}
	return out
}

// ownedSubnet is a virtual subnet and whose it is.
type ownedSubnet struct {
	vsid   hnv.VSID
	tenant hnv.Name
}

// subnets gives the virtual subnets asked for, from one on, in order.
func (in *recordFilter) subnets(f *hnv.Fabric, from hnv.VSID) (out []ownedSubnet, err error) {
	of, err := in.tenant(f)
	if err != nil {
		return nil, err
	}
	for _, t := range f.Tenants() {
		if of.IsValid() && t.Name != of {
			continue
		}
		for _, s := range t.Subnets {
			if n := s.VSID.Uint32(); n >= from.Uint32() && (in.VSID == 0 || n == in.VSID) {
				out = append(out, ownedSubnet{s.VSID, t.Name})
			}
		}
	}
	slices.SortFunc(out, func(a, b ownedSubnet) int { return cmp.Compare(a.vsid.Uint32(), b.vsid.Uint32()) })
	return out, nil
}

// tenant finds out whose records are asked for; unset: those of all tenants.
func (in *recordFilter) tenant(f *hnv.Fabric) (hnv.Name, error) {
	var of hnv.Name
	if in.VSID != 0 {
		v, err := hnv.NewVSID(in.VSID)
		if err != nil {
			return of, err
		}
		t, ok := f.TenantOfVSID(v)
		if !ok {
			return of, &kindError{fmt.Sprintf("VSID %d belongs to no tenant", in.VSID), hnv.ErrNotFound}
		}
		of = t.Name
	}
	if in.Tenant == "" {
		return of, nil
	}
	n, err := tenantNamed(f, in.Tenant)
	if err == nil && of.IsValid() && of != n {
		err = &kindError{fmt.Sprintf("VSID %d belongs to tenant %s, not to %s", in.VSID, of, n), hnv.ErrNotFound}
	}
	return n, err
}

// tenantNamed finds a tenant that a filter names.
func tenantNamed(f *hnv.Fabric, name string) (hnv.Name, error) {
	n, err := hnv.ParseName(name)
	if err != nil {
		return n, err
	}
	if _, ok := f.Tenant(n); !ok {
		return n, absent("tenant", name)
	}
	return n, nil
}

func (s *Server) importRecords(ctx context.Context, in *importInput) (*answer[v1.RecordImportResult], error) {
	w := &writing{items: each(nil, "items", in.Body.Items, recordItem), dryRun: in.DryRun, bulk: true}
	done, err := s.write(ctx, w)
	if err != nil {
		return nil, err
	}
	res := v1.RecordImportResult{DryRun: in.DryRun, Revision: done.Revision}
	for _, a := range done.Objects {
		switch a.Action {
		case v1.ActionCreated:
			res.Created++
		case v1.ActionUpdated:
			res.Updated++
		default:
			res.Unchanged++
		}
	}
	return &answer[v1.RecordImportResult]{res}, nil
}
