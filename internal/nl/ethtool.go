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

// SetFeatures switches features on or off, by the names that ethtool(8) gives
// them; those that this kernel has not are left out. The kernel drops what the
// link cannot have.
func (h *Handle) SetFeatures(name string, on map[string]bool) error {
	if err := h.setFeatures(name, on); err != nil {
		return fmt.Errorf("set features of %s: %w", name, err)
	}
	return nil
}

// Numbers and sizes of linux/ethtool.h.
const (
	getStringSet, getStrings = 0x37, 0x1b
	setFeatures              = 0x3b
	featureNames             = 4  // ETH_SS_FEATURES
	stringLen                = 32 // ETH_GSTRING_LEN
	maxFeatures              = 512
)

func (h *Handle) setFeatures(name string, on map[string]bool) error {
	count := struct {
		cmd, reserved uint32
		mask          uint64
		n             uint32
	}{cmd: getStringSet, mask: 1 << featureNames}
	if err := h.ethtoolData(name, unsafe.Pointer(&count)); err != nil {
		return err
	}
	if count.n > maxFeatures {
		return fmt.Errorf("the kernel has %d features, more than are known how to ask for", count.n)
	}
	var names struct {
		cmd, set, n uint32
		text        [maxFeatures][stringLen]byte
	}
	names.cmd, names.set, names.n = getStrings, featureNames, count.n
	if err := h.ethtoolData(name, unsafe.Pointer(&names)); err != nil {
		return err
	}
	var set struct {
		cmd, blocks uint32
		block       [maxFeatures / 32]struct{ valid, requested uint32 }
	}
	set.cmd, set.blocks = setFeatures, (count.n+31)/32
	for i := range count.n {
		want, asked := on[text(names.text[i][:])]
		if !asked {
			continue
		}
		set.block[i/32].valid |= 1 << (i % 32)
		if want {
			set.block[i/32].requested |= 1 << (i % 32)
		}
	}
	return h.ethtoolData(name, unsafe.Pointer(&set))
}

// ethtool carries one struct ethtool_value.
func (h *Handle) ethtool(name string, cmd, data uint32) (uint32, error) {
	value := struct{ cmd, data uint32 }{cmd, data}
	err := h.ethtoolData(name, unsafe.Pointer(&value))
	return value.data, err
}

func (h *Handle) ethtoolData(name string, data unsafe.Pointer) error {
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	if len(name) >= len(req.name) {
		return errors.New("the name is too long for a link")
	}
	copy(req.name[:], name)
	req.data = data
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(h.ioctl), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno == unix.ENODEV {
		return ErrNotFound
	}
	if errno != 0 {
		return errno
	}
	return nil
}
