//go:build linux

package nl

import (
	"errors"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// views open the directories of /proc/sys/net of one namespace after the other. The
// kernel keeps what it has looked up there, of all namespaces under the same names,
// and goes through that at the next look-up: with a thousand namespaces it takes as
// long as all else that is asked of one. So they are looked up in an instance of
// /proc that nobody else has, and in another one every now and then.
type views struct {
	mu   sync.Mutex
	fd   int // of the instance; -1: none
	used int // directories that were opened in it
	none bool
}

// viewUses is how many directories are opened in one instance of /proc.
const viewUses = 96

// open opens the directory in the calling thread's namespace.
func (v *views) open(top string) (*os.File, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.used >= viewUses {
		v.leave()
	}
	if v.fd < 0 && !v.none {
		// Who may not have one, as in a container, looks where everybody does.
		v.fd = newProc()
		v.none = v.fd < 0
	}
	if v.none {
		return os.Open(sysctlRoot + top)
	}
	v.used++
	fd, err := unix.Openat(v.fd, "sys/net/"+top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: sysctlRoot + top, Err: err}
	}
	return os.NewFile(uintptr(fd), sysctlRoot+top), nil
}

func (v *views) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leave()
}

// leave gives the instance up; it goes with the last directory that is open in it.
func (v *views) leave() {
	if v.fd >= 0 {
		_ = unix.Close(v.fd)
	}
	v.fd, v.used = -1, 0
}

// newProc mounts /proc nowhere; -1 where that cannot be.
func newProc() int {
	context, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return -1
	}
	fd, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1
	}
	return fd
}
