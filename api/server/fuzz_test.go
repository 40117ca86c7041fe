package server

import (
	"context"
	"strings"
	"testing"
)

// A token that is taken names the place that its own token names.
func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "MC8wLzUwMDEvMTAuMS4xLjEx", "Mi83LzUwMDEvMDAxNTVEMDAwMDAx", "MS8wLzUwMDEvZmQwMDo6MQ", "OS8wLzUwMDEv", "!"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, order, err := parseToken(s)
		if err != nil || s == "" {
			return
		}
		again, order2, err := parseToken(p.token(order))
		if err != nil || again.compare(p) != 0 || order2 != order {
			t.Errorf("%q is %+v in order %d, which is %+v in order %d: %v", s, p, order, again, order2, err)
		}
	})
}

// A header that is taken holds tags that are taken again, as they are.
func FuzzIfMatch(f *testing.F) {
	for _, s := range []string{`*`, `"a"`, `"a", W/"b" ,"c"`, `W/"`, `"a"b`, `"a",`, ``} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := readIfMatch(context.WithValue(t.Context(), ifMatchKey{}, []string{s}))
		if err != nil {
			return
		}
		if !m.given || m.any && len(m.tags) > 0 {
			t.Fatalf("%q is %+v", s, m)
		}
		if len(m.tags) == 0 {
			return
		}
		again, err := readIfMatch(context.WithValue(t.Context(), ifMatchKey{}, []string{strings.Join(m.tags, ",")}))
		if err != nil || strings.Join(again.tags, ",") != strings.Join(m.tags, ",") {
			t.Errorf("%q is %q, and that is %q: %v", s, m.tags, again.tags, err)
		}
	})
}
