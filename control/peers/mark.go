package peers

import (
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
)

// markPrefix begins the context of a record that came as a report.
const markPrefix = "learned-by:"

// maxOrigin bounds the name of a machine, so that the mark fits into a context.
const maxOrigin = 128

// mark is what the context of such a record says.
type mark struct {
	origin string
	at     time.Time // by this machine's clock; zero: not known
}

const markTime = "2006-01-02T15:04:05.000Z"

func (m mark) String() string {
	if m.at.IsZero() {
		return markPrefix + m.origin
	}
	return markPrefix + m.origin + " at " + m.at.UTC().Format(markTime)
}

// parseMark reads what String wrote; a time that cannot be read is not known.
func parseMark(context string) (mark, bool) {
	rest, ok := strings.CutPrefix(context, markPrefix)
	if !ok {
		return mark{}, false
	}
	origin, when, _ := strings.Cut(rest, " at ")
	if !validOrigin(origin) {
		return mark{}, false
	}
	m := mark{origin: origin}
	if t, err := time.Parse(markTime, when); err == nil {
		m.at = t
	}
	return m, true
}

// validOrigin tells whether s can be the name of a machine: printable ASCII
// without spaces.
func validOrigin(s string) bool {
	if s == "" || len(s) > maxOrigin {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// sameMapping tells whether two records say the same; what their context says is
// not part of it.
func sameMapping(a, b hnv.Record) bool {
	a.Context = b.Context
	return a.Equal(b)
}

// samePlace tells whether two records lie at the same host, whichever of its PAs
// is named first.
func samePlace(a, b hnv.Record) bool {
	in := func(x, y hnv.Record) bool {
		for _, p := range x.PAs() {
			if !at(y, p) {
				return false
			}
		}
		return true
	}
	return in(a, b) && in(b, a)
}
