package main

import (
	"testing"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func TestNarrowWords(t *testing.T) {
	peers := []v1.S2SPeerStatus{{Name: "hq1"}, {Name: "hq2", PathMTU: 1328}}
	if got := narrowWords(peers[:1]); got != "" {
		t.Errorf("%q of a path that takes all", got)
	}
	if got, want := narrowWords(peers), "; larger than 1328 does not get through to hq2"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
