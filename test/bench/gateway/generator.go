//go:build linux

package gateway

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// generator sends small packets of the VM's from its host to the gateway.
type generator struct {
	rig      *rig
	programs *ebpf.Collection
	frame    frame
}

// newGenerator makes a generator of so many flows, told apart by their source
// ports; with none, every packet is a flow of its own, to any of the addresses that
// the destination stands for. Where the rig has many lookup records, the flows'
// sources are spread over them.
func (r *rig) newGenerator(flows uint32, to netip.Addr) (*generator, error) {
	g := &generator{rig: r}
	from, sources := r.site.ca, uint32(0)
	if r.size.Records > 1 {
		from, sources = r.site.manyCAs, uint32(r.size.Records)
	}
	g.frame = r.small(r.site, from, to)
	err := r.within(hostMachine, func() error {
		pa0, err := net.InterfaceByName("pa0")
		if err != nil {
			return err
		}
		var words [24]uint64
		padded := make([]byte, 8*len(words))
		copy(padded, g.frame.bytes)
		for i := range words {
			words[i] = binary.NativeEndian.Uint64(padded[8*i:])
		}
		wide := uint32(0)
		if g.frame.wide {
			wide = 1
		}
		g.programs, err = load(generatorObject, map[string]any{
			"out": uint32(pa0.Index), "frame": words, "inner": uint32(g.frame.inner), "sum": g.frame.sumWithout(),
			"flows": flows, "sources": sources, "entropy": uint32(g.frame.entropy), "wide": wide,
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("generator: %w", err)
	}
	return g, nil
}

func (g *generator) close() { g.programs.Close() }

// batch is how many packets enter the gateway's NIC before it is looked after, as
// with an interrupt for so many: NAPI's weight.
const batch = 64

// liveFrames is BPF_F_TEST_XDP_LIVE_FRAMES.
const liveFrames = 1 << 1

// testRun is the part of union bpf_attr that BPF_PROG_TEST_RUN reads.
type testRun struct {
	program, result       uint32
	sizeIn, sizeOut       uint32
	in, out               uint64
	repeat, duration      uint32
	ctxSizeIn, ctxSizeOut uint32
	ctxIn, ctxOut         uint64
	flags, cpu, batch     uint32
	_                     uint32
}

// progTestRun is the command BPF_PROG_TEST_RUN of bpf(2).
const progTestRun = 10

// send sends until a signal interrupts it. Beginning and ending cost tens of
// milliseconds. The calling thread must be in the host's namespace. The library's
// Run would begin anew after a signal.
func (g *generator) send() error {
	a := testRun{
		program: uint32(g.programs.Programs["generate"].FD()), sizeIn: uint32(len(g.frame.bytes)),
		in: uint64(uintptr(unsafe.Pointer(&g.frame.bytes[0]))), repeat: math.MaxUint32, flags: liveFrames, batch: batch,
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, progTestRun, uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a))
	runtime.KeepAlive(g)
	if errno != 0 && errno != unix.EINTR {
		return fmt.Errorf("generator: %w", os.NewSyscallError("bpf", errno))
	}
	return nil
}

// start sends in the background, so many packets a second, or as fast as it goes if
// that is 0, until stop is called.
func (g *generator) start(rate float64) (stop func() error, err error) {
	gap := uint64(0)
	if rate > 0 {
		gap = max(1, uint64(1e9/rate))
	}
	if err := g.programs.Variables["gap"].Set(gap); err != nil {
		return nil, err
	}
	var stopped atomic.Bool
	thread, done := make(chan int, 1), make(chan error, 1)
	go func() {
		done <- g.rig.within(hostMachine, func() error {
			thread <- unix.Gettid()
			for !stopped.Load() {
				if err := g.send(); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	return func() error {
		stopped.Store(true)
		for {
			// The signal by which Go's runtime stops its own threads: it may come any
			// time and means nothing.
			select {
			case id := <-thread:
				thread <- id
				_ = unix.Tgkill(os.Getpid(), id, unix.SIGURG) // it may have ended
			case err := <-done:
				return err
			}
			select {
			case err := <-done:
				return err
			case <-time.After(time.Millisecond):
			}
		}
	}, nil
}
