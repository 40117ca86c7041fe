package server

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hnvgate/hnvgate/hnv"
)

// resource is a kind of object with the usual operations: list, read, create,
// create or replace, delete. T is its form in the interface, L the list's.
type resource[T, L any] struct {
	path   string // of the list
	key    string // what follows it for one object: "/{interface}"
	id     string // for operation ids: "port"
	noun   string // for people: "port"
	plural string
	kind   hnv.Kind
	item   func(at string, v T) item
	show   func(f *hnv.Fabric, o hnv.Object) T
	list   func([]T) L
	onPut  string                                  // what else is to be said of replacing one
	needed func(f *hnv.Fabric, o hnv.Object) error // says why one cannot be deleted yet; nil: the state does
}

// keyed is an input whose path names an object; only what Key needs is set.
type keyed interface {
	object() (hnv.Object, error)
}

// putting is a keyed input with a body.
type putting[T any] interface {
	keyed
	body() T
}

type (
	nothing       struct{}
	answer[T any] struct{ Body T }
	// one is a single object, whose ETag is for If-Match.
	one[T any] struct {
		ETag string `header:"ETag" doc:"Changes whenever the object does; for If-Match."`
		Body T
	}
	written[T any] struct {
		Status   int
		ETag     string `header:"ETag" doc:"Changes whenever the object does; for If-Match."`
		Revision int64  `header:"Hnvgate-Revision" doc:"Store revision that holds the object."`
		Body     T
	}
	deleted struct {
		Revision int64 `header:"Hnvgate-Revision" doc:"Store revision without the object."`
	}
	creation[T any] struct{ Body T }
)

func operation(id, method, path, tag, summary string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{tag},
		// What is right and wrong is said by hnv alone, in its words.
		SkipValidateBody: true, MaxBodyBytes: maxBody, BodyReadTimeout: requestTimeout,
	}
}

func (r resource[T, L]) registerList(s *Server) {
	huma.Register(s.api, operation("list-"+r.plural, http.MethodGet, r.path, r.plural, "List the "+r.plural),
		func(context.Context, *nothing) (*answer[L], error) {
			return &answer[L]{r.list(r.all(s, nil))}, nil
		})
}

// registerListOfTenant is registerList for objects of a tenant, which can be asked
// for alone.
func registerListOfTenant[T, L any](s *Server, r resource[T, L], tenant func(hnv.Object) hnv.Name) {
	list := operation("list-"+r.plural, http.MethodGet, r.path, r.plural, "List the "+r.nouns())
	list.Errors = []int{http.StatusNotFound, http.StatusUnprocessableEntity}
	huma.Register(s.api, list, func(_ context.Context, in *tenantFilter) (*answer[L], error) {
		if err := s.checkTenant(in.Tenant); err != nil {
			return nil, err
		}
		items := r.all(s, func(_ *hnv.Fabric, o hnv.Object) bool {
			return in.Tenant == "" || tenant(o).String() == in.Tenant
		})
		return &answer[L]{r.list(items)}, nil
	})
}

// nouns is what several are called.
func (r resource[T, L]) nouns() string { return r.noun + "s" }

// all gives the objects that keep takes; nil takes all.
func (r resource[T, L]) all(s *Server, keep func(f *hnv.Fabric, o hnv.Object) bool) []T {
	out := []T{}
	s.store.View(func(f *hnv.Fabric) {
		for _, o := range f.List(r.kind) {
			if keep == nil || keep(f, o) {
				out = append(out, r.show(f, o))
			}
		}
	})
	return out
}

func registerGet[K keyed, T, L any](s *Server, r resource[T, L]) {
	huma.Register(s.api, r.getOperation(), func(_ context.Context, in *K) (*one[T], error) {
		want, err := (*in).object()
		if err != nil {
			return nil, s.refuse(err)
		}
		if v, tag, ok := r.find(s, want.Key()); ok {
			return &one[T]{tag, v}, nil
		}
		return nil, s.refuse(absent(r.noun, want.Key()))
	})
}

func (r resource[T, L]) getOperation() huma.Operation {
	op := operation("get-"+r.id, http.MethodGet, r.path+r.key, r.plural, "Read one "+r.noun)
	op.Errors = []int{http.StatusNotFound, http.StatusUnprocessableEntity}
	return op
}

func (r resource[T, L]) find(s *Server, key string) (v T, tag string, ok bool) {
	s.store.View(func(f *hnv.Fabric) {
		var o hnv.Object
		if o, ok = f.Get(r.kind, key); ok {
			v = r.show(f, o)
			tag = etag(v, sealed(o)...)
		}
	})
	return v, tag, ok
}

func (r resource[T, L]) registerCreate(s *Server) {
	op := operation("create-"+r.id, http.MethodPost, r.path, r.plural, "Create "+article(r.noun))
	op.DefaultStatus = http.StatusCreated
	op.Description = "Refused where it exists already."
	op.Errors = refusals
	huma.Register(s.api, op, func(ctx context.Context, in *creation[T]) (*written[T], error) {
		return r.write(ctx, s, &writing{items: []item{r.item("body", in.Body)}, create: true})
	})
}

// refusals are the statuses that a write may answer, conditionals those of one
// that can be conditional; the document names them.
var (
	refusals     = []int{http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity}
	conditionals = append([]int{http.StatusPreconditionFailed}, refusals...)
)

func (r resource[T, L]) write(ctx context.Context, s *Server, w *writing) (*written[T], error) {
	res, err := s.write(ctx, w)
	if err != nil {
		return nil, err
	}
	out := &written[T]{Status: http.StatusOK, Revision: res.Revision}
	if slices.ContainsFunc(w.actions, isCreated) {
		out.Status = http.StatusCreated
	}
	s.store.View(func(f *hnv.Fabric) {
		o, ok := f.Get(r.kind, w.last.Key()) // the state may have filled in something
		if !ok {
			o = w.last // it was deleted since
		}
		out.Body = r.show(f, o)
		out.ETag = etag(out.Body, sealed(o)...)
	})
	return out, nil
}

func registerPut[P putting[T], T, L any](s *Server, r resource[T, L]) {
	op := conditional(operation("put-"+r.id, http.MethodPut, r.path+r.key, r.plural, "Create or replace "+article(r.noun)))
	op.Description = "Answers 201 where it is new, 200 where it was replaced or was just so already." + r.onPut
	op.Errors = conditionals
	huma.Register(s.api, op, func(ctx context.Context, in *P) (*written[T], error) {
		want, err := (*in).object()
		if err != nil {
			return nil, s.refuse(err)
		}
		m, err := readIfMatch(ctx)
		if err != nil {
			return nil, s.refuse(err)
		}
		it := r.item("body", (*in).body())
		it.mustBe(want)
		return r.write(ctx, s, &writing{
			items:  []item{it},
			unless: func(f *hnv.Fabric) error { return r.unchanged(f, m, want.Key()) },
		})
	})
}

func (r resource[T, L]) deleteOperation() huma.Operation {
	op := conditional(operation("delete-"+r.id, http.MethodDelete, r.path+r.key, r.plural, "Delete "+article(r.noun)))
	op.Errors = conditionals
	return op
}

func registerDelete[K keyed, T, L any](s *Server, r resource[T, L]) {
	op := r.deleteOperation()
	op.DefaultStatus = http.StatusNoContent
	huma.Register(s.api, op, func(ctx context.Context, in *K) (*deleted, error) {
		return remove(ctx, s, r, *in, func(_ *hnv.Fabric, want hnv.Object) error { return absent(r.noun, want.Key()) })
	})
}

// remove deletes an object; missing says why one that is not there is not.
func remove[T, L any](ctx context.Context, s *Server, r resource[T, L], in keyed, missing func(f *hnv.Fabric, want hnv.Object) error) (*deleted, error) {
	want, err := in.object()
	if err != nil {
		return nil, s.refuse(err)
	}
	m, err := readIfMatch(ctx)
	if err != nil {
		return nil, s.refuse(err)
	}
	rev, err := s.store.UpdateFunc(ctx, func(f *hnv.Fabric) ([]hnv.Change, error) {
		o, ok := f.Get(r.kind, want.Key())
		if !ok {
			return nil, missing(f, want)
		}
		if r.needed != nil {
			if err := r.needed(f, o); err != nil {
				return nil, err
			}
		}
		if err := r.unchanged(f, m, want.Key()); err != nil {
			return nil, err
		}
		return []hnv.Change{{Delete: want}}, nil
	})
	if err != nil {
		return nil, s.refuse(err)
	}
	return &deleted{rev}, nil
}

func article(noun string) string {
	if noun == "ACL" || noun == "attachment" {
		return "an " + noun
	}
	return "a " + noun
}

func absent(noun, key string) error {
	return &kindError{noun + " " + key + " does not exist", hnv.ErrNotFound}
}
