package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const stateRoot = "/run/hnvlab"

// fabricPrefix holds every subnet of the provider fabric.
const fabricPrefix = "192.168.0.0/16"

// DefaultName is the lab's name where none is given.
const DefaultName = "hnvlab"

// Options say what a lab is made of and where its programs are.
type Options struct {
	Topology Topology // the zero value is Default()
	Bin      string   // folder of hnvlab, gatewayd and gatewayctl; "": beside the running program
	Path     string   // of packets through gatewayd: auto, ebpf or go; "": auto
	// NATOffload is gatewayd's natOffload: whose connections are translated in the
	// kernel's programs, where those are the path; "": the default.
	NATOffload string
	// BFD is between packets that watch the ways to sites, both ways; three missing
	// ones end a session. 0 is 200 ms.
	BFD time.Duration
	// WireGuard is the wireguard-go of the sites; "": Debian's.
	WireGuard string
	// Command is told of every operator's command before it runs; may be nil.
	Command func(machine string, argv []string)
}

// Lab is one lab. Its methods may be called by several goroutines, except Up
// and Down, which exclude all others.
type Lab struct {
	name string
	dir  string
	topo Topology
	opts Options

	mu       sync.Mutex
	hosts    map[string]host   // by machine
	where    map[string]string // VM -> host, as it is now
	ports    map[string]PortSettings
	captures int
	streams  int
	daemons  map[string]*Process // gatewayd, by machine
	paths    map[string]string   // of gatewayd, where SetPath was called
}

// host is one tenant host's implementation, as a datacenter controller sees it.
type host interface {
	// up makes the host ready and installs the records of its tenants.
	up(ctx context.Context) error
	// portMachine is the machine whose namespace holds the NICs of the tenant's VMs.
	portMachine(tenant string) string
	// offloads tells whether VM NICs keep checksum and segmentation offload.
	offloads() bool
	attach(ctx context.Context, vm VM) error
	detach(ctx context.Context, vm VM) error
	setRecord(ctx context.Context, tenant Tenant, r Record) error
	removeRecord(ctx context.Context, tenant Tenant, r Record) error
}

// New describes a lab; nothing exists before Up. The name is a word of
// lower-case letters and digits: what belongs to the lab begins with it and a
// hyphen, so that no lab's name is the beginning of another's.
func New(name string, o Options) (*Lab, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if len(o.Topology.Fabric) == 0 {
		o.Topology = Default()
	}
	if err := o.Topology.check(); err != nil {
		return nil, fmt.Errorf("lab %s: %w", name, err)
	}
	if o.BFD == 0 {
		o.BFD = 200 * time.Millisecond
	}
	if o.Bin == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("lab %s: %w", name, err)
		}
		o.Bin = filepath.Dir(self)
	}
	l := &Lab{
		name: name, dir: filepath.Join(stateRoot, name), topo: o.Topology, opts: o,
		hosts: map[string]host{}, where: map[string]string{}, ports: map[string]PortSettings{}, daemons: map[string]*Process{}, paths: map[string]string{},
	}
	for _, h := range l.topo.Hosts {
		l.hosts[h.Name] = l.newHost(h)
	}
	for _, vm := range l.topo.VMs {
		l.where[vm.Name] = vm.Host
	}
	return l, nil
}

// Open finds a lab that is up, as another process left it.
func Open(name string, o Options) (*Lab, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	err := readJSON(filepath.Join(stateRoot, name, "topology.json"), &o.Topology)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("lab %s is not up: start it with hnvlab up", name)
	}
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", name, err)
	}
	return New(name, o)
}

func checkName(name string) error {
	// The longest name leaves room for the name of a gatewayd instance (20).
	ok := name != "" && len(name) <= 16 && name[0] >= 'a' && name[0] <= 'z'
	for i := range len(name) {
		c := name[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9')
	}
	if !ok {
		return fmt.Errorf("lab name %q: use at most 16 lower-case letters and digits, beginning with a letter", name)
	}
	return nil
}

func (l *Lab) newHost(h Host) host {
	switch h.Implementation {
	case OpenVSwitch:
		return &ovsHost{lab: l, h: h, state: newHostState(h, &l.topo)}
	case KernelVXLAN:
		return &vxlanHost{lab: l, h: h}
	default:
		return &hnvHost{lab: l, h: h}
	}
}

// Name gives the lab's name.
func (l *Lab) Name() string { return l.name }

// Bin gives the folder of the programs.
func (l *Lab) Bin() string { return l.opts.Bin }

// Dir gives the lab's state folder.
func (l *Lab) Dir() string { return l.dir }

// Topology gives what the lab consists of.
func (l *Lab) Topology() *Topology { return &l.topo }

// Up removes what may be left of a lab of this name and creates it anew: all
// machines, the independent hosts with their records, and the services. It
// does not start gatewayd anywhere. When it fails, it leaves nothing behind.
func (l *Lab) Up(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("lab %s: creating network namespaces needs root: run it with sudo", l.name)
	}
	if err := l.Down(); err != nil {
		return err
	}
	if err := l.up(ctx); err != nil {
		return errors.Join(fmt.Errorf("lab %s: %w", l.name, err), l.Down())
	}
	return nil
}

func (l *Lab) up(ctx context.Context) error {
	for _, d := range []string{"run", "log", "pcap"} {
		if err := os.MkdirAll(filepath.Join(l.dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := writeJSON(filepath.Join(l.dir, "topology.json"), l.topo); err != nil {
		return err
	}
	p := l.plan()
	if err := l.ip(ctx, "", p.namespaces()...); err != nil {
		return err
	}
	err := p.each(ctx, func(ctx context.Context, m *machinePlan) error {
		_, err := l.Exec(ctx, m.name, append([]string{"sysctl", "-qw"}, m.sysctls...)...)
		return err
	})
	if err != nil {
		return err
	}
	if err := l.ip(ctx, "", p.links...); err != nil {
		return err
	}
	err = p.each(ctx, func(ctx context.Context, m *machinePlan) error {
		for _, ifname := range m.plain {
			if _, err := l.Exec(ctx, m.name, "ethtool", "-K", ifname, "tx", "off"); err != nil {
				return err
			}
		}
		return l.ip(ctx, m.name, m.config...)
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range l.hosts {
		g.Go(func() error { return h.up(ctx) })
	}
	g.Go(func() error { return l.startServices(ctx) })
	return g.Wait()
}

// Where tells on which host the VM's NIC is now.
func (l *Lab) Where(vm string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.where[vm]
}
