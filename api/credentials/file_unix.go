//go:build unix

package credentials

import (
	"fmt"
	"io/fs"
	"strconv"
	"syscall"
)

// checkKeyMode refuses a private key that is not private.
func checkKeyMode(fi fs.FileInfo) error {
	if m := fi.Mode().Perm(); m&0o027 != 0 {
		return fmt.Errorf("mode %04o lets others at it: chmod 600, or 640 for a group that may read it", m)
	}
	return nil
}

// fileID tells a file that was moved into the place of another.
func fileID(fi fs.FileInfo) string {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return strconv.FormatUint(st.Ino, 36)
	}
	return ""
}
