//go:build linux

package nl

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// SendFrame sends an Ethernet frame out of the link with the index. The socket
// for it is kept: to close one costs the kernel milliseconds.
func (h *Handle) SendFrame(index int, frame []byte) error {
	if len(frame) < 14 {
		return errors.New("send frame: it has no Ethernet header")
	}
	fd, err := h.packetSocket()
	if err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	to := &unix.SockaddrLinklayer{Ifindex: index, Protocol: uint16(frame[12]) | uint16(frame[13])<<8, Halen: 6}
	copy(to.Addr[:], frame[:6])
	if err := unix.Sendto(fd, frame, 0, to); err != nil {
		return fmt.Errorf("send frame: %w", os.NewSyscallError("sendto", err))
	}
	return nil
}

func (h *Handle) packetSocket() (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done {
		return -1, os.ErrClosed
	}
	if h.packet >= 0 {
		return h.packet, nil
	}
	err := netns.Do(h.ns.Path(), func() (err error) {
		h.packet, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // hears nothing
		return os.NewSyscallError("socket", err)
	})
	return h.packet, err
}
