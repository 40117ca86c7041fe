package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

type applyInput struct {
	DryRun bool `query:"dryRun" doc:"Check everything, say what would be done, and write nothing."`
	Diff   bool `query:"diff" doc:"Give each object that is created or updated as it was and as it is then."`
	Body   v1.Document
}

type exportInput struct {
	Host []string `query:"host" doc:"Provider addresses of a host, separated by commas: only what a host with them needs. Left out: everything." example:"192.168.1.10"`
}

func (s *Server) registerDocuments() {
	apply := operation("apply", http.MethodPost, "/v1/apply", "documents", "Create or replace all objects of a document, or none")
	apply.Description = "One transaction: everything is checked together, in any order of the objects, and written at once or not at all. " +
		"Objects that are just so already are left alone; objects that the document does not name stay. " +
		fmt.Sprintf("At most %d MiB.", maxDocument>>20)
	apply.Errors = refusals
	apply.MaxBodyBytes, apply.BodyReadTimeout = maxDocument, bulkTimeout
	huma.Register(s.api, apply, s.apply)

	export := operation("export", http.MethodGet, "/v1/export", "documents", "Give what is configured as one document")
	export.Description = "Everything except keys and passwords, or with host what a host needs and nothing else, as it is applied there: " +
		"the tenants that have a lookup record at one of its provider addresses, without their gateway, their ACLs, records and customer routes, " +
		"and the way to the compartments on this gateway. The host's own provider addresses, provider routes and ports are not in it."
	export.Errors = []int{http.StatusUnprocessableEntity}
	huma.Register(s.api, export, s.export)
}

func (s *Server) apply(ctx context.Context, in *applyInput) (*answer[v1.ApplyResult], error) {
	if v := in.Body.APIVersion; v != "" && v != v1.APIVersion {
		return nil, s.problem([]refusal{{at: "body.apiVersion", err: invalidf("apiVersion %q is unknown: write %s, or leave it out", v, v1.APIVersion)}})
	}
	res, err := s.write(ctx, &writing{items: documentItems(&in.Body), dryRun: in.DryRun, diff: in.Diff})
	if err != nil {
		return nil, err
	}
	return &answer[v1.ApplyResult]{res}, nil
}

func (s *Server) export(_ context.Context, in *exportInput) (*answer[v1.Document], error) {
	if len(in.Host) > 0 {
		pas, err := parsePAs(in.Host)
		if err != nil {
			return nil, s.refuse(err)
		}
		return &answer[v1.Document]{document(s.backend.ForHost(pas))}, nil
	}
	var out answer[v1.Document]
	// In one view, so that it is of one revision.
	s.store.View(func(f *hnv.Fabric) {
		var all []hnv.Object
		for _, k := range hnv.Kinds() {
			all = append(all, f.List(k)...)
		}
		out.Body = document(all)
	})
	return &out, nil
}

func parsePAs(in []string) ([]netip.Addr, error) {
	var out []netip.Addr
	var bad []error
	for _, s := range in {
		a, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			bad = append(bad, invalidf("host: provider address %q is not an IP address; here it stands without its prefix length", s))
			continue
		}
		out = append(out, a)
	}
	return out, errors.Join(bad...)
}

// document puts objects into the form that apply takes.
func document(objects []hnv.Object) v1.Document {
	d := v1.Document{APIVersion: v1.APIVersion}
	for _, o := range objects {
		switch v := asWritten(o).(type) {
		case v1.ProviderAddress:
			d.ProviderAddresses = append(d.ProviderAddresses, v)
		case v1.ProviderRoute:
			d.ProviderRoutes = append(d.ProviderRoutes, v)
		case v1.Tenant:
			d.Tenants = append(d.Tenants, v)
		case v1.ACL:
			d.ACLs = append(d.ACLs, v)
		case v1.Port:
			d.Ports = append(d.Ports, v)
		case v1.LookupRecord:
			d.LookupRecords = append(d.LookupRecords, v)
		case v1.CustomerRoute:
			d.CustomerRoutes = append(d.CustomerRoutes, v)
		case v1.NATMapping:
			d.NATMappings = append(d.NATMappings, v)
		case v1.Attachment:
			d.Attachments = append(d.Attachments, v)
		case v1.S2SConnection:
			d.S2SConnections = append(d.S2SConnections, v)
		case v1.BGPRouter:
			d.BGPRouters = append(d.BGPRouters, v)
		case v1.BGPPeer:
			d.BGPPeers = append(d.BGPPeers, v)
		}
	}
	return d
}

// asWritten gives an object as a document has it: without the tenant of a VSID,
// which the document says already.
func asWritten(o hnv.Object) any {
	switch o := o.(type) {
	case hnv.ProviderAddress:
		return v1.NewProviderAddress(o)
	case hnv.ProviderRoute:
		return v1.NewProviderRoute(o)
	case hnv.Tenant:
		return v1.NewTenant(o)
	case hnv.ACL:
		return v1.NewACL(o)
	case hnv.Port:
		return v1.NewPort(o)
	case hnv.Record:
		return v1.NewLookupRecord(o, "", "")
	case hnv.CustomerRoute:
		r := v1.NewCustomerRoute(o, "")
		r.RDID = ""
		return r
	case hnv.NATMapping:
		return v1.NewNATMapping(o)
	case hnv.Attachment:
		return v1.NewAttachment(o)
	case hnv.S2SConnection:
		return v1.NewS2SConnection(o)
	case hnv.BGPRouter:
		return v1.NewBGPRouter(o)
	case hnv.BGPPeer:
		return v1.NewBGPPeer(o)
	}
	panic("server: an object of a kind that no document has: " + o.Kind())
}
