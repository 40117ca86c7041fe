//go:build linux

package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBounds(t *testing.T) {
	s := &Supervisor{o: Options{MemoryMax: 64 << 20, CPUPercent: 150}}
	want := []bound{{"cpu.max", "150000 100000"}, {"memory.max", "67108864"}, {"memory.oom.group", "1"}, {"pids.max", "512"}}
	if d := cmp.Diff(want, s.bounds([]string{"cpuset", "cpu", "io", "memory", "pids"}), cmp.AllowUnexported(bound{})); d != "" {
		t.Error(d)
	}
	if got := s.bounds(nil); got != nil {
		t.Errorf("without controllers: %v", got)
	}
	if got := (&Supervisor{}).bounds([]string{"cpu", "memory"}); got != nil {
		t.Errorf("without bounds: %v", got)
	}
}
