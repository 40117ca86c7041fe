//go:build linux

package compartments

import (
	"slices"
	"sync"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// ownRoutes are our routes in the gateway's namespace. The kernel goes through all of
// them to list those over one link, and each compartment is looked at again and again:
// as long as nobody changes any, they are listed once for all.
type ownRoutes struct {
	h       *nl.Handle
	changes *nl.Changes

	mu    sync.Mutex
	known bool
	quiet int // looks since the last change
	by    map[int][]nl.Route
}

// quietLooks are how many looks in a row find nothing changed before all routes are
// listed: while compartments come and go, each look is for its own link only.
const quietLooks = 8

// over gives the routes over the link with the index.
func (o *ownRoutes) over(link int) ([]nl.Route, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changes.Any() { // before the list is made: what changes from now on is told next time
		o.known, o.quiet, o.by = false, 0, nil
	}
	if !o.known {
		if o.quiet++; o.quiet < quietLooks {
			return o.h.Routes(nl.Protocol, link)
		}
		all, err := o.h.Routes(nl.Protocol, 0)
		if err != nil {
			return nil, err
		}
		o.by = map[int][]nl.Route{}
		for _, r := range all {
			o.by[r.Link] = append(o.by[r.Link], r)
		}
		o.known = true
	}
	return slices.Clone(o.by[link]), nil
}
