//go:build linux

package nl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// sysctlRoot is a tree that shows each thread its own namespace's settings.
const sysctlRoot = "/proc/sys/net/"

// Sysctl reads a setting of the handle's namespace, named by its path below
// /proc/sys/net, as "ipv4/ip_forward". ErrNotFound if the kernel has none.
func (h *Handle) Sysctl(key string) (string, error) {
	f, err := h.sysctl(key, unix.O_RDONLY)
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
	f, err := h.sysctl(key, unix.O_WRONLY)
	if err == nil {
		_, err = f.WriteString(value)
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
func (h *Handle) sysctl(key string, flags int) (*os.File, error) {
	top, rest, ok := strings.Cut(key, "/")
	if !ok {
		return nil, fs.ErrInvalid
	}
	dir, err := h.sysctlDir(top)
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

func (h *Handle) sysctlDir(top string) (*os.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f, ok := h.sys[top]; ok {
		if f == nil {
			return nil, ErrNotFound
		}
		return f, nil
	}
	if h.done {
		return nil, os.ErrClosed
	}
	var f *os.File
	err := netns.Do(h.ns.Path(), func() (err error) {
		f, err = os.Open(sysctlRoot + top)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	h.sys[top] = f
	return f, nil
}
