//go:build linux

package offload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BPFFS is where the kernel's file system of pinned maps is mounted.
const BPFFS = "/sys/fs/bpf"

// pins is a folder in which maps stay when the process ends:
//
//	/sys/fs/bpf/hnvgate/<instance>/v<layout>/<map>
type pins struct {
	root   string // of the instance
	folder string // of the layout
	// fresh tells that nothing was there.
	fresh bool
}

func instanceFolder(bpffs, instance string) string { return filepath.Join(bpffs, "hnvgate", instance) }

// openPins makes the instance's folder, mounting the file system if it is not.
func openPins(bpffs, instance string) (*pins, error) {
	if err := mountBPFFS(bpffs); err != nil {
		return nil, err
	}
	root := instanceFolder(bpffs, instance)
	p := &pins{root: root, folder: filepath.Join(root, fmt.Sprintf("v%d", layoutVersion))}
	if _, err := os.Stat(p.folder); errors.Is(err, fs.ErrNotExist) {
		p.fresh = true
	}
	if err := os.MkdirAll(p.folder, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of pinned maps: %w", err)
	}
	return p, nil
}

func mountBPFFS(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpf", path, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount the BPF file system at %s: %w", path, err)
	}
	return nil
}

// open takes the map over that is pinned, or makes one and pins it. A nil pins
// pins nothing.
func (p *pins) open(spec *ebpf.MapSpec) (*ebpf.Map, error) {
	if p == nil {
		return newMap(spec)
	}
	path := filepath.Join(p.folder, spec.Name)
	m, err := ebpf.LoadPinnedMap(path, nil)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open pinned map %s: %w", path, err)
	default:
		// Its size is what it was made with.
		spec.MaxEntries = m.MaxEntries()
		if err := spec.Compatible(m); err != nil {
			return nil, errors.Join(fmt.Errorf("pinned map %s: %w", path, err), m.Close())
		}
		return m, nil
	}
	if m, err = newMap(spec); err != nil {
		return nil, err
	}
	if err := m.Pin(path); err != nil {
		return nil, errors.Join(fmt.Errorf("pin map %s: %w", path, err), m.Close())
	}
	return m, nil
}

func newMap(spec *ebpf.MapSpec) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, fmt.Errorf("make map %s: %w", spec.Name, err)
	}
	return m, nil
}

// removeOthers takes away what other layouts have pinned: programs of ours alone
// are attached by now.
func (p *pins) removeOthers() error {
	entries, err := os.ReadDir(p.root)
	if err != nil {
		return fmt.Errorf("list pinned maps: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if e.Name() != filepath.Base(p.folder) && strings.HasPrefix(e.Name(), "v") {
			errs = append(errs, os.RemoveAll(filepath.Join(p.root, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// removePins takes away all that the instance has pinned.
func removePins(bpffs, instance string) error {
	root := instanceFolder(bpffs, instance)
	if err := os.RemoveAll(root); err != nil {
		return fmt.Errorf("remove pinned maps: %w", err)
	}
	// The folder of all instances goes with the last one.
	if err := os.Remove(filepath.Dir(root)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("remove the folder of pinned maps: %w", err)
	}
	return nil
}
