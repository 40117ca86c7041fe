package document

import (
	"errors"
	"reflect"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// Policy is a BGP policy read from a file, and where in it each thing is.
type Policy struct {
	v1.BGPPolicy
	doc *Document // nil: it is of no file
}

// ParsePolicy reads a BGP policy of a peer, in YAML or JSON: a mapping with rules
// and default, or the list of the rules alone. The error joins an *Error for each
// thing that is wrong.
func ParsePolicy(s Source) (*Policy, error) {
	p := &Policy{doc: &Document{places: map[string]Place{}}}
	if errs := p.doc.parse(s, func(w *walker, bodies []body) { w.policy(bodies, &p.BGPPolicy) }); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return p, nil
}

// Place finds where a location of a problem is, whose first steps, such as
// "body.import.", are given.
func (p *Policy) Place(location, steps string) (Place, bool) {
	rest, ok := strings.CutPrefix(location, steps)
	if !ok || p.doc == nil {
		return Place{}, false
	}
	return p.doc.Place(rest)
}

func (w *walker) policy(bodies []body, into *v1.BGPPolicy) {
	if len(bodies) != 1 {
		w.errs = append(w.errs, &Error{Place{File: w.file}, "a file of a policy holds one YAML document, with rules and default"})
		return
	}
	n := bodies[0]
	if isList(n) {
		w.value(n, reflect.ValueOf(&into.Rules).Elem(), "rules")
		return
	}
	w.value(n, reflect.ValueOf(into).Elem(), "")
}
