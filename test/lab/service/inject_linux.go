package service

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// Inject sends Ethernet frames, one a line in hexadecimal, out of the
// interface as they are, and gives how many it sent.
func Inject(ifname string, frames io.Reader) (int, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return 0, fmt.Errorf("inject at %s: %w", ifname, err)
	}
	// Protocol 0: the socket receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("inject at %s: open packet socket: %w", ifname, err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Ifindex: ifi.Index}
	sc := bufio.NewScanner(frames)
	sc.Buffer(nil, 1<<20)
	n := 0
	for sc.Scan() {
		b, err := hex.DecodeString(sc.Text())
		if err != nil {
			return n, fmt.Errorf("inject at %s: frame %d: %w", ifname, n+1, err)
		}
		if err := unix.Sendto(fd, b, 0, to); err != nil {
			return n, fmt.Errorf("inject at %s: send frame %d: %w", ifname, n+1, err)
		}
		n++
	}
	return n, sc.Err()
}
