//go:build linux

package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Access says what may be done below a path.
type Access int

// The kinds of access.
const (
	ReadExec  Access = iota // read and execute files, list folders
	ReadWrite               // read and write files that are there
	All                     // also make and remove files, sockets and folders
)

// Path is a file or folder that stays within reach. One that does not exist is
// left out.
type Path struct {
	Name   string
	Access Access
}

// Enter confines the calling thread and executes the program anew with these
// arguments; it returns only if that fails. done lists, for the new program,
// what holds, as args are made from it.
func Enter(paths []Path, keep []uintptr, args func(done []string) []string, env []string) error {
	runtime.LockOSThread() // never unlocked: what follows is of this thread
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	done := []string{"no-new-privileges", "capabilities"}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("PR_SET_NO_NEW_PRIVS", err)
	}
	if err := dropCapabilities(keep); err != nil {
		return err
	}
	switch err := landlock(append(paths, Path{self, ReadExec})); {
	case err == nil:
		done = append(done, "landlock")
	case !errors.Is(err, errors.ErrUnsupported):
		return err
	}
	err = unix.Exec(self, args(done), env)
	return fmt.Errorf("execute %s: %w", self, err)
}

// dropCapabilities leaves the thread, and what it executes, these and no others.
func dropCapabilities(keep []uintptr) error {
	var mask uint64
	for _, c := range keep {
		mask |= 1 << c
	}
	for c := uintptr(0); c < 64; c++ {
		if mask&(1<<c) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the last one was before
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{}
	for i := range data {
		part := uint32(mask >> (32 * i))
		data[i] = unix.CapUserData{Effective: part, Permitted: part}
	}
	if err := unix.Capset(&head, &data[0]); err != nil {
		return os.NewSyscallError("capset", err)
	}
	return nil
}

// Rights of Landlock's first version (include/uapi/linux/landlock.h); later ones
// add rights that are not handled here, and so not restricted.
const (
	readExec  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	readWrite = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	all       = 1<<13 - 1
	ofFiles   = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
)

// landlock shuts the thread off from all files but those named;
// errors.ErrUnsupported where the kernel cannot.
func landlock(paths []Path) error {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: all}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), 8, 0)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP {
		return errors.ErrUnsupported
	}
	if errno != 0 {
		return os.NewSyscallError("landlock_create_ruleset", errno)
	}
	defer unix.Close(int(fd))
	for _, p := range paths {
		if err := allow(int(fd), p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("allow %s: %w", p.Name, err)
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return os.NewSyscallError("landlock_restrict_self", errno)
	}
	return nil
}

func allow(ruleset int, p Path) error {
	fd, err := unix.Open(p.Name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	access := uint64(map[Access]int{ReadExec: readExec, ReadWrite: readWrite, All: all}[p.Access])
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= ofFiles
	}
	rule := struct {
		access uint64
		fd     int32
	}{access, int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	runtime.KeepAlive(&rule)
	if errno != 0 {
		return os.NewSyscallError("landlock_add_rule", errno)
	}
	return nil
}
