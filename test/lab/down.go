package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const netnsDir = "/run/netns"

func nsPath(namespace string) string { return filepath.Join(netnsDir, namespace) }

// Down removes everything that has the lab's name: processes, namespaces and
// the state folder. It does not need the Lab that made them, and it works on
// what a killed run left behind. It returns when all of it is gone.
func (l *Lab) Down() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	names, err := l.namespaces()
	if err != nil {
		return fmt.Errorf("lab %s: %w", l.name, err)
	}
	procs := l.processes(names)
	if err := stopAll(ctx, procs); err != nil {
		return fmt.Errorf("lab %s: %w", l.name, err)
	}
	// A gatewayd may just have made or removed a compartment.
	if names, err = l.namespaces(); err != nil {
		return fmt.Errorf("lab %s: %w", l.name, err)
	}
	var errs []error
	if len(names) > 0 {
		var batch strings.Builder
		for _, n := range names {
			fmt.Fprintf(&batch, "netns del %s\n", n)
		}
		if _, err := run(ctx, batch.String(), "ip", "-force", "-batch", "-"); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, os.RemoveAll(l.dir))
	_ = os.Remove(filepath.Dir(l.dir)) // stays while another lab is in it
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lab %s: %w", l.name, err)
	}
	return nil
}

// namespaces lists the lab's namespaces that exist, also those that gatewayd
// made for its compartments: their names begin with the lab's name too.
func (l *Lab) namespaces() ([]string, error) {
	entries, err := os.ReadDir(netnsDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), l.name+"-") {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// processes finds what runs in the lab: the processes Start noted, and any
// other whose network namespace is one of the lab's.
func (l *Lab) processes(namespaces []string) []identity {
	found := map[identity]bool{}
	files, _ := filepath.Glob(filepath.Join(l.dir, "run", "*.json")) // the pattern is well-formed
	for _, f := range files {
		var id identity
		// A file cut short belongs to a killed run; the sweep below finds its process.
		if readJSON(f, &id) == nil && id.alive() {
			found[id] = true
		}
	}
	type inode struct{ dev, ino uint64 }
	ours := map[inode]bool{}
	stat := func(path string) (inode, bool) {
		var st syscall.Stat_t
		err := syscall.Stat(path, &st)
		return inode{st.Dev, st.Ino}, err == nil
	}
	for _, n := range namespaces {
		if i, ok := stat(nsPath(n)); ok {
			ours[i] = true
		}
	}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if i, ok := stat("/proc/" + e.Name() + "/ns/net"); !ok || !ours[i] {
			continue
		}
		if id, err := identify(pid); err == nil && pid != os.Getpid() {
			found[id] = true
		}
	}
	out := make([]identity, 0, len(found))
	for id := range found {
		out = append(out, id)
	}
	return out
}

// stopAll ends the processes and waits until they have ended. Nothing in a lab
// holds what needs a gentle end.
func stopAll(ctx context.Context, procs []identity) error {
	for _, id := range procs {
		if err := id.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill process %d: %w", id.PID, err)
		}
	}
	for _, id := range procs {
		for id.alive() {
			select {
			case <-ctx.Done():
				return fmt.Errorf("process %d does not end: %w", id.PID, context.Cause(ctx))
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
	return nil
}
