package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// writing is a request's way into the store: what it holds, and how.
type writing struct {
	items  []item
	create bool // refuse what exists
	dryRun bool
	diff   bool // give the objects before and after
	bulk   bool // lookup records only, perhaps more than fit into a transaction
	// unless may refuse by what the state is; nil: nothing does.
	unless func(f *hnv.Fabric) error

	// partial: something is refused already. The rest is only checked, so that
	// all that is wrong is said at once.
	partial bool

	seal sealer

	actions []v1.ObjectAction // of the last plan
	placed  []refusal         // refusals of the last plan whose place is known
	last    hnv.Object        // the last object of the last plan, complete
}

// write puts all items or none, and says what became of each.
func (s *Server) write(ctx context.Context, w *writing) (v1.ApplyResult, error) {
	refuseTwice(w.items)
	w.seal = sealer{s.secrets, map[string]hnv.S2SConnection{}}
	var bad []refusal
	for _, it := range w.items {
		bad = append(bad, it.bad...)
	}
	w.partial = len(bad) > 0
	revision, err := s.carryOut(ctx, w)
	if errors.Is(err, errPlaced) {
		w.partial = true
		_, err = s.carryOut(ctx, w)
	}
	bad = append(append(bad, w.placed...), w.refusals(err)...)
	if len(bad) > 0 {
		return v1.ApplyResult{}, s.problem(w.sift(bad))
	}
	return v1.ApplyResult{DryRun: w.dryRun, Revision: revision, Objects: w.actions}, nil
}

// carryOut writes, or only checks where nothing may be written.
func (s *Server) carryOut(ctx context.Context, w *writing) (int64, error) {
	check := w.dryRun || w.partial
	switch {
	case w.bulk:
		return s.store.ImportFunc(ctx, w.plan, check)
	case check:
		return s.store.Revision(), s.store.CheckFunc(ctx, w.plan)
	}
	return s.store.UpdateFunc(ctx, w.plan)
}

// errPlaced stands for the refusals in writing.placed, which plan found.
var errPlaced = errors.New("refused")

// plan fills in what the objects leave to the state, and leaves out what would
// change nothing.
func (w *writing) plan(f *hnv.Fabric) ([]hnv.Change, error) {
	w.actions = make([]v1.ObjectAction, 0, len(w.items))
	w.placed = nil
	if w.unless != nil {
		if err := w.unless(f); err != nil {
			return nil, err
		}
	}
	c := newCompletion(f, w.items)
	var changes []hnv.Change
	for _, it := range w.items {
		if it.object == nil {
			continue
		}
		o, err := c.complete(it)
		if err != nil {
			w.placed = append(w.placed, refusal{at: it.at, item: it.at, err: err})
			continue
		}
		o, bad := w.withSecrets(f, it, o)
		if len(bad) > 0 {
			w.placed = append(w.placed, bad...)
			continue
		}
		w.last = o
		old, exists := f.Get(o.Kind(), o.Key())
		action := v1.ActionCreated
		switch {
		case exists && !w.create && same(old, o):
			action = v1.ActionUnchanged
		case exists:
			action = v1.ActionUpdated
		}
		done := v1.ObjectAction{Kind: string(o.Kind()), Key: o.Key(), Action: action}
		if w.diff && action != v1.ActionUnchanged {
			if done.Old, done.New, err = beforeAndAfter(old, o); err != nil {
				return nil, err
			}
		}
		w.actions = append(w.actions, done)
		if action != v1.ActionUnchanged {
			changes = append(changes, hnv.Change{Put: o, Create: w.create})
		}
	}
	if len(w.placed) > 0 && !w.partial {
		return nil, errPlaced
	}
	return changes, nil
}

// withSecrets puts an object's secrets in, and what a connection leaves to the
// state.
func (w *writing) withSecrets(f *hnv.Fabric, it item, o hnv.Object) (hnv.Object, []refusal) {
	old, exists := f.Get(o.Kind(), o.Key())
	switch o := o.(type) {
	case hnv.S2SConnection:
		before, _ := old.(hnv.S2SConnection)
		c, bad := w.seal.connection(it, o, before, exists)
		if w.connections() == 1 {
			c = f.Complete(c)
		} else if c = c.Defaulted(); exists {
			// Which ports are free, those beside it decide: the fabric says when it takes
			// them one after the other.
			c = c.Kept(before)
		}
		if exists && len(bad) == 0 {
			bad = w.seal.stuck(it, before, c)
		}
		return c, bad
	case hnv.BGPPeer:
		before, _ := old.(hnv.BGPPeer)
		p, bad := w.seal.peer(it, o, before)
		if exists && len(bad) == 0 {
			bad = w.seal.stuck(it, before, p)
		}
		return p, bad
	}
	return o, nil
}

// connections counts the connections that are written.
func (w *writing) connections() (n int) {
	for _, it := range w.items {
		if _, ok := it.object.(hnv.S2SConnection); ok {
			n++
		}
	}
	return n
}

// same tells whether two objects of a kind say the same.
func same(a, b hnv.Object) bool {
	if x, ok := a.(hnv.Record); ok { // of which there are many
		y, ok := b.(hnv.Record)
		return ok && x.Equal(y)
	}
	return reflect.DeepEqual(a, b)
}

// beforeAndAfter gives an object as documents have it; before is nil where it is
// new.
func beforeAndAfter(old, o hnv.Object) (before, after json.RawMessage, err error) {
	if old != nil {
		if before, err = json.Marshal(asWritten(old)); err != nil {
			return nil, nil, fmt.Errorf("show %s %s: %w", old.Kind(), old.Key(), err)
		}
	}
	if after, err = json.Marshal(asWritten(o)); err != nil {
		return nil, nil, fmt.Errorf("show %s %s: %w", o.Kind(), o.Key(), err)
	}
	return before, after, nil
}

// refusals takes the store's answer apart and finds each object's place.
func (w *writing) refusals(err error) []refusal {
	var places map[id]string
	var out []refusal
	for _, e := range flatten(err) {
		r := refusal{err: e}
		if oe := new(hnv.ObjectError); errors.As(e, &oe) {
			if places == nil {
				places = make(map[id]string, len(w.items))
				for _, it := range w.items {
					if it.object != nil {
						places[idOf(it.object)] = it.at
					}
				}
			}
			r.item = places[id{oe.Kind, oe.Key}]
			r.at = r.item
		}
		out = append(out, r)
	}
	return out
}

// completion knows the tenants as they will be, to fill in what records and
// routes leave out.
type completion struct {
	fabric  *hnv.Fabric
	tenants map[hnv.Name]hnv.Tenant
	byVSID  map[hnv.VSID]hnv.Tenant
}

func newCompletion(f *hnv.Fabric, items []item) *completion {
	c := &completion{f, map[hnv.Name]hnv.Tenant{}, map[hnv.VSID]hnv.Tenant{}}
	for _, it := range items {
		t, ok := it.object.(hnv.Tenant)
		if !ok {
			continue
		}
		if !t.RDID.IsValid() {
			if old, ok := f.Tenant(t.Name); ok {
				t.RDID = old.RDID
			}
		}
		t = t.Defaulted()
		c.tenants[t.Name] = t
		for _, s := range t.Subnets {
			c.byVSID[s.VSID] = t
		}
	}
	return c
}

func (c *completion) tenantOf(v hnv.VSID) (hnv.Tenant, bool) {
	if t, ok := c.byVSID[v]; ok {
		return t, true
	}
	return c.fabric.TenantOfVSID(v)
}

// complete gives the object with nothing left out. What cannot be filled in for
// want of a tenant gets a value that passes, so that the state refuses it and
// says the true reason.
func (c *completion) complete(it item) (hnv.Object, error) {
	switch o := it.object.(type) {
	case hnv.Tenant:
		return c.tenants[o.Name], nil
	case hnv.Record:
		t, ok := c.tenantOf(o.VSID)
		if o.Rule == "" {
			o.Rule = hnv.RuleNVGRE
			if ok {
				o.Rule = hnv.Rule(t.Encap)
			}
		}
		return o, it.checkTenant(t, ok, o.VSID)
	case hnv.ACL:
		return o.Normalized(), nil
	case hnv.Attachment:
		return o.Defaulted(), nil
	case hnv.CustomerRoute:
		t, ok := c.tenantOf(o.VSID)
		if !o.RDID.IsValid() {
			o.RDID = hnv.NewRDID()
			if ok {
				o.RDID = t.RDID
			}
		}
		return o, it.checkTenant(t, ok, o.VSID)
	}
	return it.object, nil
}

// checkTenant refuses what is not of the tenant it says it is.
func (it *item) checkTenant(t hnv.Tenant, found bool, v hnv.VSID) error {
	if !found {
		return nil // refused by the state
	}
	if it.tenant != "" && it.tenant != t.Name.String() {
		return &kindError{fmt.Sprintf("%s: VSID %s belongs to tenant %s, not to %s", it.label, v, t.Name, it.tenant), hnv.ErrConflict}
	}
	if it.rdid != "" {
		if r, err := hnv.ParseRDID(it.rdid); err == nil && r != t.RDID {
			return &kindError{fmt.Sprintf("%s: VSID %s is in RDID %s (tenant %s), not in %s", it.label, v, t.RDID, t.Name, r), hnv.ErrConflict}
		}
	}
	return nil
}

func isCreated(a v1.ObjectAction) bool { return a.Action == v1.ActionCreated }
