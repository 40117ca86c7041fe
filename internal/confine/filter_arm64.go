//go:build linux

package confine

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// allowed adds what only this processor has.
var allowed = append(common[:len(common):len(common)], unix.SYS_FSTATAT, unix.SYS_SET_TID_ADDRESS)
