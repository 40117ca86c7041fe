package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hnvgate/hnvgate/hnv"
)

// etag is a strong entity tag (RFC 9110 section 8.8.3) of what the interface
// shows of an object and of its secrets: it changes whenever these do, and only then.
func etag(shown any, secrets ...string) string {
	b, err := json.Marshal(shown)
	if err != nil {
		return ""
	}
	for _, s := range secrets {
		b = append(append(b, 0), s...)
	}
	h := sha256.Sum256(b)
	return `"` + hex.EncodeToString(h[:12]) + `"`
}

// ifMatch is the precondition of a write (RFC 9110 section 13.1.1); the zero
// value always holds.
type ifMatch struct {
	given bool
	any   bool // *: whatever it is, it must be there
	tags  []string
}

// ifMatchKey finds a request's header in its context.
type ifMatchKey struct{}

// conditional lets an operation be made only if the object is still the one
// that was read.
func conditional(op huma.Operation) huma.Operation {
	op.Parameters = append(op.Parameters, &huma.Param{
		Name: "If-Match", In: "header", Example: `"f00dcafe0123456789abcdef"`, Schema: &huma.Schema{Type: huma.TypeString},
		Description: "ETag of the object as it was read, or several, or * for any; refused with 412 where it changed since.",
	})
	op.Middlewares = append(op.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
		var given []string
		ctx.EachHeader(func(name, value string) {
			if strings.EqualFold(name, "If-Match") {
				given = append(given, value)
			}
		})
		next(huma.WithValue(ctx, ifMatchKey{}, given))
	})
	return op
}

// readIfMatch reads the precondition of the request that ctx belongs to.
func readIfMatch(ctx context.Context) (ifMatch, error) {
	given, _ := ctx.Value(ifMatchKey{}).([]string)
	m := ifMatch{given: len(given) > 0}
	rest := strings.TrimSpace(strings.Join(given, ","))
	if rest == "*" {
		m.any = true
		return m, nil
	}
	for m.given {
		weak := strings.HasPrefix(rest, "W/")
		tag, tail, ok := cutTag(strings.TrimPrefix(rest, "W/"))
		if !ok {
			return m, invalidf("header If-Match %s is malformed: give ETags as they were read, in quotes and separated by commas, or *", strings.Join(given, ","))
		}
		if !weak { // a weak one never matches
			m.tags = append(m.tags, tag)
		}
		if tail == "" {
			break
		}
		rest = tail
	}
	return m, nil
}

// cutTag takes the first tag off a list, with its quotes, and the comma behind
// it.
func cutTag(s string) (tag, tail string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", "", false
	}
	end := strings.IndexByte(s[1:], '"')
	if end < 0 {
		return "", "", false
	}
	tag, tail = s[:end+2], strings.TrimSpace(s[end+2:])
	if tail == "" {
		return tag, "", true
	}
	tail, ok = strings.CutPrefix(tail, ",")
	return tag, strings.TrimSpace(tail), ok && tail != ""
}

// unchanged refuses a write whose precondition does not hold.
func (r resource[T, L]) unchanged(f *hnv.Fabric, m ifMatch, key string) error {
	if !m.given {
		return nil
	}
	o, ok := f.Get(r.kind, key)
	switch {
	case !ok:
		return &kindError{r.noun + " " + key + " does not exist any more, or did not yet", errChanged}
	case m.any || slices.Contains(m.tags, etag(r.show(f, o), sealed(o)...)):
		return nil
	}
	return &kindError{r.noun + " " + key + " was changed meanwhile: read it again, and then decide", errChanged}
}
