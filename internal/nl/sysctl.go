//go:build linux

package nl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// sysctlRoot is a tree that shows each thread its own namespace's settings.
const sysctlRoot = "/proc/sys/net/"

// Sysctl reads a setting of the handle's namespace, named by its path below
// /proc/sys/net, as "ipv4/ip_forward". ErrNotFound if the kernel has none.
func (h *Handle) Sysctl(key string) (string, error) {
	f, err := h.sysctl(key, unix.O_RDONLY, h.read)
	if err != nil {
		return "", fmt.Errorf("read setting net/%s: %w", key, err)
	}
	defer f.Close()
	var b [256]byte
	n, err := f.Read(b[:])
	if err != nil && n == 0 {
		return "", fmt.Errorf("read setting net/%s: %w", key, err)
	}
	return strings.TrimSpace(string(b[:n])), nil
}

// SetSysctl writes a setting.
func (h *Handle) SetSysctl(key, value string) error {
	f, err := h.sysctl(key, unix.O_WRONLY, h.write)
	if err == nil {
		h.turn.take(func() { _, err = f.WriteString(value) })
		err = errors.Join(err, f.Close())
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("write setting net/%s: %w (is /proc/sys mounted read-only, as in a container?)", key, err)
	}
	if err != nil {
		return fmt.Errorf("write setting net/%s = %s: %w", key, value, err)
	}
	return nil
}

// sysctl opens a setting below a directory that was opened once inside the
// namespace: the look-up from the root costs the kernel a walk over every
// namespace there is, and would need a thread inside.
func (h *Handle) sysctl(key string, flags int, by *settings) (*os.File, error) {
	top, rest, ok := strings.Cut(key, "/")
	if !ok {
		return nil, fs.ErrInvalid
	}
	dir, err := by.dir(h.ns, top)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat(int(dir.Fd()), rest, flags|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), sysctlRoot+key), nil
}

// settings are the directories of /proc/sys/net that a handle has open.
type settings struct {
	open func(top string) (*os.File, error) // in the handle's namespace

	mu   sync.Mutex
	dirs map[string]*os.File // nil: there is none
	done bool
}

func newSettings(open func(top string) (*os.File, error)) *settings {
	return &settings{open: open, dirs: map[string]*os.File{}}
}

// take keeps what open gave.
func (s *settings) take(top string, f *os.File, err error) error {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		f = nil
	}
	s.dirs[top] = f
	return nil
}

func (s *settings) dir(ns netns.NS, top string) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return nil, os.ErrClosed
	}
	if _, ok := s.dirs[top]; !ok {
		if err := ns.Do(func() error {
			f, err := s.open(top)
			return s.take(top, f, err)
		}); err != nil {
			return nil, err
		}
	}
	if s.dirs[top] == nil {
		return nil, ErrNotFound
	}
	return s.dirs[top], nil
}

func (s *settings) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
	for _, f := range s.dirs {
		if f != nil {
			_ = f.Close()
		}
	}
}

// openPublic opens a directory where everybody sees it, and finds it read-only where
// that was said.
func openPublic(top string) (*os.File, error) { return os.Open(sysctlRoot + top) }

// openPrivate opens it in an instance of /proc of its own.
func openPrivate(top string) (*os.File, error) {
	v := &views{fd: -1}
	defer v.close()
	return v.open(top)
}
