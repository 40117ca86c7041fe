//go:build linux

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
)

// groupPrefix begins the names of the agents' groups.
const groupPrefix = "agent-"

// cpuPeriod is the span over which processor time is bounded, in microseconds.
const cpuPeriod = 100000

// group makes the tenant's group, with what bounds its controllers offer, and
// opens it; nil where no groups are wanted.
func (s *Supervisor) group(t hnv.Name) (*os.File, error) {
	if s.o.Cgroup == "" {
		return nil, nil
	}
	dir := filepath.Join(s.o.Cgroup, groupPrefix+t.String())
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("control group: %w", err)
	}
	has, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil, fmt.Errorf("control group: %w", err)
	}
	for _, b := range s.bounds(strings.Fields(string(has))) {
		if err := os.WriteFile(filepath.Join(dir, b.file), []byte(b.value), 0); err != nil {
			return nil, fmt.Errorf("control group: %w", err)
		}
	}
	return os.Open(dir)
}

type bound struct{ file, value string }

// bounds gives what to write where these controllers are there.
func (s *Supervisor) bounds(controllers []string) []bound {
	var out []bound
	for _, c := range controllers {
		switch {
		case c == "memory" && s.o.MemoryMax > 0:
			out = append(out, bound{"memory.max", fmt.Sprint(s.o.MemoryMax)}, bound{"memory.oom.group", "1"})
		case c == "cpu" && s.o.CPUPercent > 0:
			out = append(out, bound{"cpu.max", fmt.Sprintf("%d %d", s.o.CPUPercent*cpuPeriod/100, cpuPeriod)})
		case c == "pids":
			out = append(out, bound{"pids.max", "512"}) // WireGuard waits in a thread for each of up to 256 tunnels
		}
	}
	return out
}

func (s *Supervisor) removeGroup(t hnv.Name) error {
	if s.o.Cgroup == "" {
		return nil
	}
	err := os.Remove(filepath.Join(s.o.Cgroup, groupPrefix+t.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
