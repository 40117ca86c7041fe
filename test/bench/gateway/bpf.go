//go:build linux

package gateway

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/hnvgate/hnvgate/hnv"
)

//go:generate bpf/build generator sink host

var (
	//go:embed bpf/generator.o
	generatorObject []byte
	//go:embed bpf/sink.o
	sinkObject []byte
	//go:embed bpf/host.o
	hostObject []byte
)

// load loads an object with its constants set.
func load(object []byte, constants map[string]any) (*ebpf.Collection, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, err
	}
	for name, v := range constants {
		c, ok := spec.Variables[name]
		if !ok {
			return nil, fmt.Errorf("the object has no variable %q", name)
		}
		if err := c.Set(v); err != nil {
			return nil, fmt.Errorf("variable %s: %w", name, err)
		}
	}
	return ebpf.NewCollection(spec)
}

// attached are a collection's programs at the ingress of interfaces. They are gone
// when the process is, however it ends.
type attached struct {
	programs *ebpf.Collection
	links    []link.Link
}

func (a *attached) close() error {
	var errs []error
	for _, l := range a.links {
		errs = append(errs, l.Close())
	}
	a.programs.Close()
	return errors.Join(errs...)
}

func (a *attached) get(variable string, to any) error {
	return a.programs.Variables[variable].Get(to)
}

func (a *attached) set(variable string, v any) error {
	return a.programs.Variables[variable].Set(v)
}

// attach loads an object and attaches programs of it in the calling thread's
// namespace: program by interface.
func attach(object []byte, constants map[string]any, at map[string]int) (*attached, error) {
	c, err := load(object, constants)
	if err != nil {
		return nil, err
	}
	a := &attached{programs: c}
	for program, ifindex := range at {
		l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: c.Programs[program], Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach %s (the benchmark needs Linux 6.6): %w", program, err), a.close())
		}
		a.links = append(a.links, l)
	}
	return a, nil
}

// host is the program that stands for a tenant host.
type host struct{ *attached }

func (r *rig) attachHost() (h *host, err error) {
	s := r.site
	gateway := s.fabricMAC
	if r.direct {
		gateway = s.internetMAC
	}
	t := s.tenant(0)
	err = r.within(hostMachine, func() error {
		pa0, err := net.InterfaceByName("pa0")
		if err != nil {
			return err
		}
		v0, err := net.InterfaceByName("v0")
		if err != nil {
			return err
		}
		a, err := attach(hostObject, map[string]any{
			"kind": tunnelKind(r.Encap), "vsid": t.gatewayVSID.Uint32(),
			"pa": s.hostPA.As4(), "ca": s.ca.As4(), "gateway_pa": s.gatewayPA.As4(),
			"pa_mac": s.hostMAC.Bytes(), "gateway_mac": gateway.Bytes(),
			"router_mac": hnv.RouterMAC.Bytes(), "compartment_mac": hnv.CompartmentMAC(t.gatewayVSID).Bytes(),
			"vm_mac": s.vmMAC.Bytes(), "pa_link": uint32(pa0.Index), "vm_link": uint32(v0.Index),
		}, map[string]int{"from_vm": v0.Index, "from_wire": pa0.Index})
		h = &host{a}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	return h, nil
}

// tunnelKind is the number of an encapsulation in the programs.
func tunnelKind(e hnv.Encap) uint32 {
	switch e {
	case hnv.NVGRE:
		return 1
	case hnv.VXLAN:
		return 2
	}
	return 0
}

// watch makes the host note when the first packet arrives for another of its PAs.
func (h *host) watch(pa netip.Addr) error {
	if err := h.set("seen", uint64(0)); err != nil {
		return err
	}
	return h.set("watched", pa.As4())
}

// sink is the program that counts and takes away small packets outside.
type sink struct{ *attached }

func (r *rig) attachSink() (s *sink, err error) {
	err = r.within(inetMachine, func() error {
		gw0, err := net.InterfaceByName("gw0")
		if err != nil {
			return err
		}
		a, err := attach(sinkObject, map[string]any{"expected": r.source(r.site).As4()}, map[string]int{"sink": gw0.Index})
		s = &sink{a}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	return s, nil
}

// taken gives how many packets came from the expected address, and from others.
func (s *sink) taken() (right, wrong uint64, err error) {
	var by [64]struct{ Right, Wrong, Pad0, Pad1, Pad2, Pad3, Pad4, Pad5 uint64 }
	if err := s.get("taken", &by); err != nil {
		return 0, 0, err
	}
	for _, c := range by {
		right, wrong = right+c.Right, wrong+c.Wrong
	}
	return right, wrong, nil
}

// reflect makes the sink send back what it gets, or not.
func (s *sink) reflect(on bool) error {
	var v uint32
	if on {
		v = 1
	}
	return s.set("reflect", v)
}
