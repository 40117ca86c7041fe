//go:build linux

package nl

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// Changes tells whether something of a kind has changed since it was asked last. The
// kernel notes a change before whoever makes it is told that it is made.
type Changes struct{ fd int }

// AddrChanges tells of the addresses of all of the namespace's links.
func (h *Handle) AddrChanges() (*Changes, error) {
	return h.changes("addresses", unix.RTMGRP_IPV4_IFADDR|unix.RTMGRP_IPV6_IFADDR)
}

// RouteChanges tells of routes, and of links and addresses too: of the routes that go
// with these the kernel does not tell.
func (h *Handle) RouteChanges() (*Changes, error) {
	return h.changes("routes", unix.RTMGRP_IPV4_ROUTE|unix.RTMGRP_IPV6_ROUTE|unix.RTMGRP_LINK|unix.RTMGRP_IPV4_IFADDR|unix.RTMGRP_IPV6_IFADDR)
}

func (h *Handle) changes(what string, groups uint32) (*Changes, error) {
	c := &Changes{fd: -1}
	err := netns.Do(h.ns.Path(), func() (err error) {
		c.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		return os.NewSyscallError("socket", err)
	})
	if err == nil {
		err = unix.Bind(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups})
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("watch %s: %w", what, err)
	}
	return c, nil
}

// Any tells whether there were changes, and forgets them. What it cannot know it
// takes for a change.
func (c *Changes) Any() bool {
	any := false
	for b := make([]byte, 1); ; any = true { // of a message, only that it came
		_, _, err := unix.Recvfrom(c.fd, b, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return any
		case err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS):
			return true
		}
	}
}

// Close ends it.
func (c *Changes) Close() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
		c.fd = -1
	}
}
