//go:build linux

package netns

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NS holds on to a namespace: it stays alive, and reachable, until Close.
type NS struct{ f *os.File }

// ID tells namespaces apart while they live.
type ID struct{ Dev, Ino uint64 }

// Open holds the namespace at path.
func Open(path string) (NS, error) {
	f, err := os.Open(path)
	if err != nil {
		return NS{}, fmt.Errorf("open namespace: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type != unix.NSFS_MAGIC {
		_ = f.Close()
		return NS{}, fmt.Errorf("open namespace: %s is a file that no namespace is mounted on", path)
	}
	return NS{f}, nil
}

// Current holds the calling thread's namespace.
func Current() (NS, error) { return Open("/proc/thread-self/ns/net") }

// Path can be given wherever a namespace's path is asked for, in this process
// and until Close.
func (n NS) Path() string { return fmt.Sprintf("/proc/self/fd/%d", n.fd()) }

// ID gives the namespace's identity.
func (n NS) ID() (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.fd(), &st); err != nil {
		return ID{}, fmt.Errorf("identify namespace: %w", err)
	}
	return ID{uint64(st.Dev), st.Ino}, nil //nolint:unconvert // Dev has 32 bits on some architectures
}

// Do runs fn inside the namespace, as the function Do does. A process that may
// not change namespaces can still do what is to be done in its own.
func (n NS) Do(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(n.fd(), unix.CLONE_NEWNET); err != nil && !n.here() {
			return fmt.Errorf("enter namespace: %w", os.NewSyscallError("setns", err))
		}
		return fn()
	})
}

// Close lets the namespace go.
func (n NS) Close() error { return n.f.Close() }

func (n NS) fd() int { return int(n.f.Fd()) }
