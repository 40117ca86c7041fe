package port

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// memberships hold multicast groups joined, by sockets that get no packets:
// routers and switches hear of it by the kernel's IGMPv3 and MLDv2 (RFC 3376,
// RFC 3810), and the interface takes the group's frames.
type memberships struct {
	do     func(func() error) error
	joined []membership
	socks  []*members
}

type membership struct {
	Group
	index int
	by    *members
}

// members is one socket, of one family: the kernel lets each join a few groups
// only (net.ipv4.igmp_max_memberships).
type members struct {
	fd, n int
	six   bool
}

// join makes the groups joined exactly those of want, as far as their interfaces
// are there; it tells of those that are not.
func (m *memberships) join(want []Group) error {
	var errs []error
	indexes := map[string]int{}
	var missing []membership
	keep := map[Group]bool{}
	for _, g := range want {
		if g.Interface == "" {
			continue // somebody else's
		}
		index, known := indexes[g.Interface]
		if !known {
			var err error
			if index, err = m.index(g.Interface); err != nil {
				errs = append(errs, fmt.Errorf("join groups on %s: %w", g.Interface, err))
			}
			indexes[g.Interface] = index
		}
		if index == 0 || keep[g] {
			continue
		}
		keep[g] = true
		if !slices.ContainsFunc(m.joined, func(j membership) bool { return j.Group == g && j.index == index }) {
			missing = append(missing, membership{Group: g, index: index})
		}
	}
	m.joined = slices.DeleteFunc(m.joined, func(j membership) bool {
		if keep[j.Group] && indexes[j.Interface] == j.index {
			return false
		}
		_ = j.set(false) // it fails only when the interface is gone, and the membership with it
		j.by.n--
		return true
	})
	for _, j := range missing {
		if err := m.add(j); err != nil {
			errs = append(errs, fmt.Errorf("join group %s on %s: %w", j.Addr, j.Interface, err))
		}
	}
	m.socks = slices.DeleteFunc(m.socks, func(s *members) bool {
		if s.n == 0 {
			_ = unix.Close(s.fd)
		}
		return s.n == 0
	})
	return errors.Join(errs...)
}

// add joins one group by the first socket that has room for it.
func (m *memberships) add(j membership) error {
	for i := 0; ; i++ {
		fresh := i == len(m.socks)
		if fresh {
			s, err := m.open(j.Addr.Is6())
			if err != nil {
				return err
			}
			m.socks = append(m.socks, s)
		}
		if m.socks[i].six != j.Addr.Is6() {
			continue
		}
		j.by = m.socks[i]
		err := j.set(true)
		switch {
		case err == nil:
			j.by.n++
			m.joined = append(m.joined, j)
			return nil
		case !fresh && (errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)):
		default:
			return err
		}
	}
}

func (j membership) set(in bool) error {
	if j.Addr.Is6() {
		opt := unix.IPV6_LEAVE_GROUP
		if in {
			opt = unix.IPV6_JOIN_GROUP
		}
		return os.NewSyscallError("setsockopt", unix.SetsockoptIPv6Mreq(j.by.fd, unix.IPPROTO_IPV6, opt,
			&unix.IPv6Mreq{Multiaddr: j.Addr.As16(), Interface: uint32(j.index)}))
	}
	opt := unix.IP_DROP_MEMBERSHIP
	if in {
		opt = unix.IP_ADD_MEMBERSHIP
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptIPMreqn(j.by.fd, unix.IPPROTO_IP, opt,
		&unix.IPMreqn{Multiaddr: j.Addr.As4(), Ifindex: int32(j.index)}))
}

// open makes a socket without a port, which gets nothing.
func (m *memberships) open(six bool) (*members, error) {
	s := &members{fd: -1, six: six}
	err := m.enter(func() (err error) {
		family := unix.AF_INET
		if six {
			family = unix.AF_INET6
		}
		s.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return os.NewSyscallError("socket", err)
	})
	return s, err
}

func (m *memberships) index(ifname string) (index int, err error) {
	if len(m.socks) > 0 {
		return interfaceIndex(m.socks[0].fd, ifname)
	}
	s, err := m.open(false)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s.fd)
	return interfaceIndex(s.fd, ifname)
}

func (m *memberships) enter(f func() error) error {
	if m.do == nil {
		return f()
	}
	return m.do(f)
}
