//go:build linux

package offload

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// What probe.go asks of the kernel, each by doing it.

func tryTypes() error {
	if _, err := btf.LoadKernelSpec(); err != nil {
		return fmt.Errorf("the kernel does not tell its types (CONFIG_DEBUG_INFO_BTF): %w", err)
	}
	return nil
}

func tryHelpers() error {
	return errors.Join(
		features.HaveProgramHelper(ebpf.SchedCLS, asm.FnRedirectNeigh), features.HaveProgramHelper(ebpf.SchedCLS, asm.FnRedirectPeer))
}

// tryContext looks for the function by which a program sees the kernel's own
// structure of a packet.
func tryContext() error {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return err
	}
	var f *btf.Func
	if err := types.TypeByName("bpf_cast_to_kern_ctx", &f); err != nil {
		return fmt.Errorf("bpf_cast_to_kern_ctx is not there (Linux 6.2): %w", err)
	}
	return nil
}

// Flags of bpf_skb_adjust_room: uapi/linux/bpf.h.
const (
	roomAtMAC  = 1 // BPF_ADJ_ROOM_MAC
	fixedGSO   = 1 << 0
	encapIPv4  = 1 << 1
	encapIPv6  = 1 << 2
	encapGRE   = 1 << 3
	encapUDP   = 1 << 4
	encapEther = 1<<6 | etherHeader<<56 // ENCAP_L2_ETH, with an Ethernet header's length
	decapIPv4  = 1 << 7
	decapIPv6  = 1 << 8
	decapGRE   = 1 << 9
	decapUDP   = 1 << 10

	etherHeader = 14
)

func tryEncap() error {
	for _, flags := range []uint64{encapIPv4 | encapGRE, encapIPv4 | encapUDP, encapIPv6 | encapGRE, encapIPv6 | encapUDP} {
		if err := adjustRoom(etherHeader+40+16, fixedGSO|encapEther|flags); err != nil {
			return fmt.Errorf("bpf_skb_adjust_room does not do it (Linux 5.13): %w", err)
		}
	}
	return nil
}

func tryDecap() error {
	for _, flags := range []uint64{decapIPv4, decapIPv6} {
		if err := adjustRoom(-(20 + 8 + etherHeader), fixedGSO|flags); err != nil {
			return fmt.Errorf("bpf_skb_adjust_room does not do it (Linux 6.3): %w", err)
		}
	}
	return nil
}

func tryUnmark() error {
	for _, flags := range []uint64{decapGRE, decapUDP} {
		if err := adjustRoom(-(20 + 8 + 8 + etherHeader), fixedGSO|decapIPv4|flags); err != nil {
			return fmt.Errorf("bpf_skb_adjust_room does not do it (Linux after 6.18): %w", err)
		}
	}
	return nil
}

// adjustRoom runs bpf_skb_adjust_room on an IPv4 packet.
func adjustRoom(bytes int32, flags uint64) error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "adjust_room", Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, bytes), asm.Mov.Imm(asm.R3, roomAtMAC), asm.LoadImm(asm.R4, int64(flags), asm.DWord),
			asm.FnSkbAdjustRoom.Call(), asm.Return(),
		},
	})
	if err != nil {
		return err
	}
	defer p.Close()
	packet := make([]byte, 200)
	packet[12], packet[etherHeader] = 0x08, 0x45
	got, _, err := p.Test(packet)
	if err == nil && int32(got) < 0 {
		err = os.NewSyscallError("bpf_skb_adjust_room", unix.Errno(-int32(got)))
	}
	return err
}

// tryLinks makes filters and tunnel sockets in a namespace of its own.
func tryLinks() (filters, sockets error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends here, and the namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			filters = os.NewSyscallError("unshare", err)
			sockets = filters
			return
		}
		h, err := nl.Open("")
		if err != nil {
			filters, sockets = err, err
			return
		}
		defer h.Close()
		filters, sockets = tryFilter(h), trySocket(h)
	}()
	<-done
	return filters, sockets
}

func tryFilter(h *nl.Handle) error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "nothing", Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		return err
	}
	defer p.Close()
	const loopback = 1
	if _, err := h.AddClsact(loopback); err != nil {
		return err
	}
	if err := h.SetFilter(nl.Filter{Link: loopback, Priority: filterPriority, Handle: filterHandle, Name: "probe"}, p.FD()); err != nil {
		return err
	}
	list, _, err := h.Filters(loopback)
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return fmt.Errorf("of one filter, the kernel lists %d", len(list))
	}
	again, err := ebpf.NewProgramFromID(ebpf.ProgramID(list[0].Program))
	if err != nil {
		return fmt.Errorf("find a filter's program: %w", err)
	}
	return again.Close()
}

func trySocket(h *nl.Handle) error {
	const name = "v4"
	err := h.AddVXLAN(nl.LinkEnd{Name: name}, nl.VXLAN{VNI: socketVNI, Local: netip.Addr{}})
	if err != nil {
		return err
	}
	l, err := h.Link(name)
	if err != nil {
		return err
	}
	return h.SetLink(l.Index, nl.LinkChange{Up: true})
}

// tryPrograms loads the programs as they would be with these capabilities.
func tryPrograms(all []Capability) error {
	l := loadOptions{sizes: Sizes{VSIDs: 1, Ports: 1, Records: 1, Hosts: 1, Routes: 1, Teams: 1, HopSets: 1, Tenants: 1, PAs: 1}}
	l.use(all)
	k, err := load(l)
	if err != nil {
		return err
	}
	return k.close()
}
