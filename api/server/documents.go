package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

type applyInput struct {
	DryRun bool `query:"dryRun" doc:"Check everything, say what would be done, and write nothing."`
	Body   v1.Document
}

func (s *Server) registerDocuments() {
	apply := operation("apply", http.MethodPost, "/v1/apply", "documents", "Create or replace all objects of a document, or none")
	apply.Description = "One transaction: everything is checked together, in any order of the objects, and written at once or not at all. " +
		"Objects that are just so already are left alone; objects that the document does not name stay. " +
		fmt.Sprintf("At most %d MiB.", maxDocument>>20)
	apply.Errors = refusals
	apply.MaxBodyBytes, apply.BodyReadTimeout = maxDocument, bulkTimeout
	huma.Register(s.api, apply, s.apply)

	huma.Register(s.api, operation("export", http.MethodGet, "/v1/export", "documents", "Give everything that is configured as one document"),
		func(context.Context, *nothing) (*answer[v1.Document], error) {
			return &answer[v1.Document]{s.export()}, nil
		})
}

func (s *Server) apply(ctx context.Context, in *applyInput) (*answer[v1.ApplyResult], error) {
	if v := in.Body.APIVersion; v != "" && v != v1.APIVersion {
		return nil, s.problem([]refusal{{at: "body.apiVersion", err: invalidf("apiVersion %q is unknown: write %s, or leave it out", v, v1.APIVersion)}})
	}
	res, err := s.write(ctx, &writing{items: documentItems(&in.Body), dryRun: in.DryRun})
	if err != nil {
		return nil, err
	}
	return &answer[v1.ApplyResult]{res}, nil
}

// export reads everything in one view, so that it is of one revision.
func (s *Server) export() v1.Document {
	d := v1.Document{APIVersion: v1.APIVersion}
	s.store.View(func(f *hnv.Fabric) {
		d.ProviderAddresses = showAll(f, providerAddresses())
		d.ProviderRoutes = showAll(f, providerRoutes())
		d.Tenants = showAll(f, tenants())
		d.ACLs = showAll(f, acls())
		d.Ports = showAll(f, ports())
		d.LookupRecords = showAll(f, records())
		d.CustomerRoutes = showAll(f, customerRoutes())
		d.NATMappings = showAll(f, mappings())
	})
	for i := range d.LookupRecords {
		// What every record would say alike, and the tenant of a VSID, which the
		// document says already.
		d.LookupRecords[i].Origin, d.LookupRecords[i].Tenant = "", ""
	}
	for i := range d.CustomerRoutes {
		d.CustomerRoutes[i].RDID, d.CustomerRoutes[i].Tenant = "", ""
	}
	return d
}

func showAll[T, L any](f *hnv.Fabric, r resource[T, L]) []T {
	var out []T
	for _, o := range f.List(r.kind) {
		out = append(out, r.show(f, o))
	}
	return out
}
