//go:build linux

package nl

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offloads are what a link may leave to the hardware, or to whoever reads its
// frames.
type Offloads struct {
	TxChecksum bool // checksums of sent packets are left unfinished
	TSO        bool // sent TCP packets may exceed the MTU
	GSO        bool // segmentation happens as late as possible
}

// The commands of linux/ethtool.h, get and set.
const (
	getTxChecksum, setTxChecksum = 0x16, 0x17
	getTSO, setTSO               = 0x1e, 0x1f
	getGSO, setGSO               = 0x23, 0x24
)

// LinkOffloads tells a link's offloads.
func (h *Handle) LinkOffloads(name string) (o Offloads, err error) {
	for _, f := range []struct {
		cmd uint32
		to  *bool
	}{{getTxChecksum, &o.TxChecksum}, {getTSO, &o.TSO}, {getGSO, &o.GSO}} {
		v, err := h.ethtool(name, f.cmd, 0)
		if err != nil {
			return o, fmt.Errorf("get offloads of %s: %w", name, err)
		}
		*f.to = v != 0
	}
	return o, nil
}

// SetLinkOffloads sets them. TSO needs TxChecksum; the kernel drops what it
// cannot have.
func (h *Handle) SetLinkOffloads(name string, o Offloads) error {
	for _, f := range []struct {
		cmd uint32
		on  bool
	}{{setTxChecksum, o.TxChecksum}, {setTSO, o.TSO}, {setGSO, o.GSO}} {
		var v uint32
		if f.on {
			v = 1
		}
		if _, err := h.ethtool(name, f.cmd, v); err != nil {
			return fmt.Errorf("set offloads of %s: %w", name, err)
		}
	}
	return nil
}

// ethtool carries one struct ethtool_value.
func (h *Handle) ethtool(name string, cmd, data uint32) (uint32, error) {
	value := struct{ cmd, data uint32 }{cmd, data}
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	if len(name) >= len(req.name) {
		return 0, errors.New("the name is too long for a link")
	}
	copy(req.name[:], name)
	req.data = unsafe.Pointer(&value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(h.ioctl), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno == unix.ENODEV {
		return 0, ErrNotFound
	}
	if errno != 0 {
		return 0, errno
	}
	return value.data, nil
}
