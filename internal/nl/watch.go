//go:build linux

package nl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// LinkEvent tells that something about a link changed.
type LinkEvent struct {
	Link Link
	Gone bool // it was deleted, or moved to another namespace
	// Missed: events were lost, as the reader was slow; Link is unset.
	Missed bool
}

// watchBuffer holds what the kernel tells while nobody reads.
const watchBuffer = 1 << 20

// WatchLinks gives what the kernel tells of the namespace's links from now on,
// until ctx ends; then the channel is closed. Whoever reads it must not wait for
// long, or events are lost, which is told.
func (h *Handle) WatchLinks(ctx context.Context) (<-chan LinkEvent, error) {
	var fd int
	err := netns.Do(h.ns.Path(), func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, fmt.Errorf("watch links: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch links: %w", os.NewSyscallError("bind", err))
	}
	f := os.NewFile(uintptr(fd), "link events")
	out := make(chan LinkEvent, 64)
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	go func() {
		defer close(out)
		defer func() { stop(); _ = f.Close() }()
		b := make([]byte, 64<<10)
		for {
			n, err := f.Read(b)
			if errors.Is(err, unix.ENOBUFS) {
				if !send(ctx, out, LinkEvent{Missed: true}) {
					return
				}
				continue
			}
			if err != nil {
				return
			}
			msgs, err := syscall.ParseNetlinkMessage(b[:n])
			if err != nil {
				continue // truncated: the kernel's messages about one link fit
			}
			for _, m := range msgs {
				if !isLinkEvent(m) {
					continue
				}
				l, err := parseLink(m.Data)
				if err == nil && !send(ctx, out, LinkEvent{Link: l, Gone: m.Header.Type == unix.RTM_DELLINK}) {
					return
				}
			}
		}
	}()
	return out, nil
}

// isLinkEvent leaves out what bridges tell of their ports under the same number.
func isLinkEvent(m syscall.NetlinkMessage) bool {
	return (m.Header.Type == unix.RTM_NEWLINK || m.Header.Type == unix.RTM_DELLINK) &&
		len(m.Data) > 0 && m.Data[0] == unix.AF_UNSPEC
}

func send(ctx context.Context, to chan<- LinkEvent, e LinkEvent) bool {
	select {
	case to <- e:
		return true
	case <-ctx.Done():
		return false
	}
}
