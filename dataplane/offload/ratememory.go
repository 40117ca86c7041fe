//go:build linux

package offload

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// mapRates makes the map's entries memory of ours: the programs see what is written
// there, and the other way round. It stays for as long as anybody keeps hold of it,
// as buckets do that are in it, whatever becomes of the map's descriptor.
func mapRates(m *ebpf.Map) (rateMemory, error) {
	n := int(m.MaxEntries())
	b, err := unix.Mmap(m.FD(), 0, n*int(unsafe.Sizeof(rateValue{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return rateMemory{}, fmt.Errorf("map the table of rates: %w", os.NewSyscallError("mmap", err))
	}
	keep := &mapped{n}
	runtime.AddCleanup(keep, func(b []byte) { _ = unix.Munmap(b) }, b)
	return rateMemory{entries: unsafe.Slice((*rateValue)(unsafe.Pointer(&b[0])), n), keep: keep, now: fineClock}, nil
}

// mapped is there for as long as memory is.
type mapped struct{ entries int }
