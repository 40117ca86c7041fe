//go:build linux

package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is where named namespaces live, shared with ip-netns(8).
const Dir = "/run/netns"

// stubAge is how old a file that no namespace is mounted on must be before it
// counts as what a killed creation left behind: ip-netns(8) and Create make the
// file an instant before they mount.
const stubAge = 10 * time.Second

// Path gives the path of the namespace with the name.
func Path(name string) string { return filepath.Join(Dir, name) }

func checkName(name string) error {
	if name == "" || len(name) > 255 || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("namespace name %q is not a file name", name)
	}
	return nil
}

// Create makes a namespace and names it. It fails with fs.ErrExist where a
// namespace has the name.
func Create(name string) error {
	return CreateWith(name, func() error { return nil })
}

// CreateWith is Create, and runs prepare inside the new namespace before it
// gets its name: who sees the name sees a prepared namespace, and if prepare
// fails, or the process dies in it, nothing is left.
func CreateWith(name string, prepare func() error) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	if Exists(name) {
		return fmt.Errorf("create namespace %s: %w", name, fs.ErrExist)
	}
	if err := shareDir(); err != nil {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := prepare(); err != nil {
			return err
		}
		return mount(name)
	})
	if err != nil {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	return nil
}

// mount names the calling thread's namespace.
func mount(name string) error {
	path := Path(name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0)
	switch {
	case err == nil:
		_ = f.Close()
	case errors.Is(err, fs.ErrExist) && !Exists(name):
		// A killed creation left the file: mount over it.
	default:
		return err
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, ""); err != nil {
		_ = os.Remove(path)
		return &os.PathError{Op: "mount", Path: path, Err: err}
	}
	return nil
}

// shareDir makes Dir a shared mount, so that a namespace mounted or unmounted
// here is so in every mount namespace that has a copy of it; otherwise a copy
// made by, say, a container's start would keep deleted namespaces alive.
func shareDir() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if err == unix.EINVAL { // not a mount point yet
		if err = unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return &os.PathError{Op: "make shared mount of", Path: Dir, Err: err}
	}
	return nil
}

// Delete takes the name from a namespace; the kernel dissolves it when no
// process and no open file is left in it. It is no error if nothing has the
// name.
func Delete(name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("delete namespace: %w", err)
	}
	path := Path(name)
	for {
		// Whoever mounted twice over one name is undone completely.
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == unix.EINVAL || err == unix.ENOENT {
			break
		}
		if err != nil {
			return fmt.Errorf("delete namespace %s: %w", name, &os.PathError{Op: "unmount", Path: path, Err: err})
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete namespace %s: %w", name, err)
	}
	return nil
}

// Exists tells whether a namespace has the name. A file that no namespace is
// mounted on does not count.
func Exists(name string) bool {
	var st unix.Statfs_t
	return checkName(name) == nil && unix.Statfs(Path(name), &st) == nil && st.Type == unix.NSFS_MAGIC
}

// List gives the names of all namespaces, sorted.
func List() ([]string, error) {
	names, err := list()
	if err != nil {
		return nil, err
	}
	live := names[:0]
	for _, n := range names {
		if Exists(n) {
			live = append(live, n)
		}
	}
	return live, nil
}

// Stubs gives the names, sorted, that killed creations left without a
// namespace. Delete removes them.
func Stubs() ([]string, error) {
	names, err := list()
	if err != nil {
		return nil, err
	}
	dead := names[:0]
	for _, n := range names {
		st, err := os.Stat(Path(n))
		if err == nil && st.Mode().IsRegular() && st.Size() == 0 && time.Since(st.ModTime()) > stubAge && !Exists(n) {
			dead = append(dead, n)
		}
	}
	return dead, nil
}

func list() ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// Do runs fn inside the namespace at path; "" is the caller's own. Unless path
// is "", fn runs on another goroutine, locked to its thread: goroutines that fn
// starts are outside. If the thread cannot return it dies instead of serving
// other goroutines from the wrong namespace. fn must return: neither
// runtime.Goexit nor testing.T.FailNow.
func Do(path string, fn func() error) error {
	if path == "" {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		return fn()
	}
	ns, err := Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.Do(fn)
}

// onThread runs fn, which may move its thread to another namespace, on a
// goroutine of its own and brings the thread home afterwards.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := errors.New("the function run inside a namespace did not return")
		defer func() { done <- err }()
		home, homeErr := Current()
		if homeErr != nil {
			runtime.UnlockOSThread()
			err = homeErr
			return
		}
		defer home.Close()
		err = fn()
		if back := unix.Setns(home.fd(), unix.CLONE_NEWNET); back != nil && !home.here() {
			// Still locked: the thread ends with this goroutine.
			err = errors.Join(err, fmt.Errorf("return from namespace: %w", os.NewSyscallError("setns", back)))
			return
		}
		runtime.UnlockOSThread()
	}()
	return <-done
}

// here tells whether the calling thread is in n: it was never away.
func (n NS) here() bool {
	now, err := Current()
	if err != nil {
		return false
	}
	defer now.Close()
	a, errA := n.ID()
	b, errB := now.ID()
	return errA == nil && errB == nil && a == b
}

// Scratch runs fn inside a new namespace without a name, which vanishes when fn
// has returned and closed what it opened.
func Scratch(fn func() error) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a namespace: %w", os.NewSyscallError("unshare", err))
		}
		return fn()
	})
}
