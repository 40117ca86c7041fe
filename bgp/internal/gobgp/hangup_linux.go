package gobgp

import (
	"net/netip"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// hangUp ends this process's TCP connections with the neighbours without a word. The
// library leaves out the NOTIFICATION only where graceful restart was agreed on, and
// whoever gets one keeps away for a while: BIRD for a minute and more.
func hangUp(peers []netip.Prefix) {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, f := range files {
		fd, err := strconv.Atoi(f.Name())
		if err != nil {
			continue
		}
		if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM {
			continue
		}
		to, err := unix.Getpeername(fd)
		if err != nil {
			continue
		}
		var a netip.Addr
		switch to := to.(type) {
		case *unix.SockaddrInet4:
			a = netip.AddrFrom4(to.Addr)
		case *unix.SockaddrInet6:
			a = netip.AddrFrom16(to.Addr).Unmap()
		}
		if a.IsValid() && slices.ContainsFunc(peers, func(p netip.Prefix) bool { return p.Contains(a) }) {
			_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		}
	}
}
