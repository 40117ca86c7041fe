//go:build linux

package offload

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// The kernel merges VXLAN packets on receipt (GRO) only where a tunnel has a UDP
// socket on their port. So there is a VXLAN device for each family, for the sake of
// its socket: of a VNI that no virtual subnet has, with a filter that drops what
// would come out of it. Devices of the machine's own on the same port share the
// socket, unless they have receive options (as "external" or "udp6zerocsumrx").

// socketVNI is of no virtual subnet: a VSID ends before it.
const socketVNI = 1<<24 - 1

// socketNames are the devices' names, by family.
func socketNames(instance string) map[string]netip.Addr {
	base := "g" + hash4(instance)
	return map[string]netip.Addr{base + "v4": {}, base + "v6": netip.IPv6Loopback()}
}

func socketAlias(instance string) string { return "hnv:" + instance + "::gro" }

// openSockets makes the devices, or takes over those that are there. Where one
// cannot be, the reason is in the answer, and packets are not merged.
func (f *FastPath) openSockets() (reason string) {
	var errs []error
	f.sockets = nil
	for name, local := range socketNames(f.instance) {
		index, err := f.openSocket(name, local)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f.sockets = append(f.sockets, index)
	}
	if err := errors.Join(errs...); err != nil {
		return err.Error()
	}
	return ""
}

func (f *FastPath) openSocket(name string, local netip.Addr) (index int, err error) {
	l, err := f.h.Link(name)
	if err == nil && l.Alias == socketAlias(f.instance) && l.Up {
		return l.Index, nil
	}
	if err == nil && !isOurs(l, socketAlias(f.instance)) {
		return 0, fmt.Errorf("interface %s is another's", name)
	}
	if errors.Is(err, nl.ErrNotFound) {
		if err = f.h.AddVXLAN(nl.LinkEnd{Name: name, NoARP: true}, nl.VXLAN{VNI: socketVNI, Local: local}); err == nil {
			l, err = f.h.Link(name)
		}
	}
	if err != nil {
		return 0, err
	}
	// First what comes out of it is dropped, and then it is up.
	err = errors.Join(quiet(f.h, l.Name), f.holdAt(l.Index, filterName(f.instance, progHold)))
	if err == nil {
		err = f.h.SetLink(l.Index, nl.LinkChange{Alias: socketAlias(f.instance), NoARP: true, AddrGenNone: true, Up: true})
	}
	if err == nil {
		return l.Index, nil
	}
	if errors.Is(err, unix.EADDRINUSE) {
		err = fmt.Errorf("UDP port 4789 is another socket's: VXLAN packets are merged only if that is a tunnel's")
	}
	return 0, errors.Join(err, f.h.DelLink(name))
}

// removeSockets takes the devices away.
func removeSockets(h *nl.Handle, instance string) (removed []string, err error) {
	var errs []error
	for name := range socketNames(instance) {
		l, err := h.Link(name)
		if errors.Is(err, nl.ErrNotFound) || err == nil && !isOurs(l, socketAlias(instance)) {
			continue
		}
		if err == nil {
			err = h.DelLink(name)
			removed = append(removed, "link "+name)
		}
		errs = append(errs, err)
	}
	return removed, errors.Join(errs...)
}
