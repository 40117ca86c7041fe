package hnv

import (
	"cmp"
	"slices"
)

// SetAside is an object that is stored and does not fit what this machine has, as an
// attachment whose uplink is of another kind in the configuration file now. It is
// shown, and can be replaced or deleted, and nothing is made of it.
type SetAside struct {
	Object
	Why error
}

// asideKinds are of which gatewayd starts without those that do not fit: the ways of
// one tenant outside, on which nothing else depends but each other.
var asideKinds = []Kind{KindAttachment, KindS2SConnection, KindBGPRouter, KindBGPPeer}

// Load is Apply for what is stored already, in the order of dependencies. A single
// object that does not fit is set aside where the others can do without it, and a tenant
// may name an uplink that the machine has no more.
func (f *Fabric) Load(changes []Change) error {
	f.loading = true
	_, err := f.Apply(changes)
	f.loading = false
	if err == nil || len(changes) != 1 || changes[0].Put == nil {
		return err
	}
	o := changes[0].normalized().Put
	if !slices.Contains(asideKinds, o.Kind()) || o.Check() != nil {
		return err // it was never right
	}
	if t, ok := f.tenants[tenantOf(o)]; !ok || t.Gateway == nil {
		return err
	}
	f.aside[idOf(o)] = SetAside{o, err}
	return nil
}

// Aside gives what of a tenant's was set aside, in the order of dependencies.
func (f *Fabric) Aside(n Name) []SetAside {
	var out []SetAside
	for _, s := range f.aside {
		if tenantOf(s.Object) == n {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b SetAside) int {
		return cmp.Or(cmp.Compare(a.Kind().order(), b.Kind().order()), cmp.Compare(a.Key(), b.Key()))
	})
	return out
}

// asideOf gives those of a kind.
func (f *Fabric) asideOf(k Kind) []Object {
	var out []Object
	for _, s := range f.aside {
		if s.Kind() == k {
			out = append(out, s.Object)
		}
	}
	return out
}

// tenantOf gives whose an object of asideKinds is.
func tenantOf(o Object) Name {
	switch o := o.(type) {
	case Attachment:
		return o.Tenant
	case S2SConnection:
		return o.Tenant
	case BGPRouter:
		return o.Tenant
	case BGPPeer:
		return o.Tenant
	}
	return Name{}
}

// readmit takes back what fits after the changes, of the tenants that these are about.
func (f *Fabric) readmit(done []Change) (back []SetAside) {
	if len(f.aside) == 0 {
		return nil
	}
	seen := map[Name]bool{}
	for _, c := range done {
		n := tenantOf(c.object())
		if t, ok := c.object().(Tenant); ok {
			n = t.Name
		}
		if !n.IsValid() || seen[n] {
			continue
		}
		seen[n] = true
		for _, s := range f.Aside(n) {
			delete(f.aside, idOf(s.Object))
			put := Change{Put: s.Object}
			_, err := f.one(put, nil)
			if err == nil {
				if errs := f.consistent([]Change{put}, []Object{nil}); len(errs) > 0 {
					f.take(s.Object)
					err = errs[0]
				}
			}
			if err != nil {
				s.Why = err
				f.aside[idOf(s.Object)] = s
				continue
			}
			back = append(back, s)
		}
	}
	return back
}
