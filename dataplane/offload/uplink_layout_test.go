package offload

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/cilium/ebpf"
)

// The entries of the uplink's tables are in Go what they are in C.
func TestExitsAreThoseOfThePrograms(t *testing.T) {
	s, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(uplinkObject))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct{ key, value any }{
		"externals":   {addr{}, externalValue{}},
		"shares":      {shareKey{}, externalValue{}},
		"exit_counts": {uint32(0), exitCount{}},
	} {
		m := s.Maps[name]
		if m == nil {
			t.Errorf("there is no map %s", name)
			continue
		}
		compareTypes(t, name+" key", m.Key, reflect.TypeOf(want.key))
		compareTypes(t, name+" value", m.Value, reflect.TypeOf(want.value))
	}
}
