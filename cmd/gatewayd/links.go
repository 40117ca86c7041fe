package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// linkState asks for one interface by name. Package net would have the kernel list
// all of them, of which a gateway has some for each tenant, and the MTU is asked for
// with each look at a tenant.
func linkState(name string) (mtu int, up bool, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, false, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	ask := func(request uint) (*unix.Ifreq, error) {
		r, err := unix.NewIfreq(name)
		if err == nil {
			err = unix.IoctlIfreq(fd, request, r)
		}
		if errors.Is(err, unix.ENODEV) {
			err = errors.New("there is no such interface")
		}
		return r, err
	}
	m, err := ask(unix.SIOCGIFMTU)
	if err != nil {
		return 0, false, fmt.Errorf("look at interface %s: %w", name, err)
	}
	f, err := ask(unix.SIOCGIFFLAGS)
	if err != nil {
		return 0, false, fmt.Errorf("look at interface %s: %w", name, err)
	}
	return int(m.Uint32()), f.Uint16()&unix.IFF_UP != 0, nil
}
