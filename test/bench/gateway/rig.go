//go:build linux

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/test/lab"
)

// The machines of a rig.
const (
	vmMachine   = "vm"
	hostMachine = "host"
	gwMachine   = "gw"
	inetMachine = "inet"
)

// rig is one case, up.
type rig struct {
	Case
	name string // the case's, with its size
	site site
	size Size
	lab  *lab.Lab // for its namespaces and processes; the topology is the rig's own

	host *host
	sink *sink
	ours *daemon // where the gateway is gatewayd
	// compartment is the machine whose kernel tracks the VM's connections.
	compartment string
	// put takes what is found out about setting the rig up.
	put put
	// daemons are the processes that are there all the time.
	daemons []*lab.Process
	// plainFabric tells that nothing on the fabric may be put together.
	plainFabric bool
}

// rigPrefix and a letter stand before the pid in the names of what belongs to a rig.
const rigPrefix = "gwb"

// Sweep removes what killed runs left.
func Sweep() error {
	var errs []error
	for letter := 'a'; letter <= 'z'; letter++ {
		errs = append(errs, lab.Sweep(rigPrefix+string(letter)))
	}
	return errors.Join(errs...)
}

// newRig describes a rig; number tells the rigs of a run apart.
func newRig(c Case, z Size, number int, bin string) (*rig, error) {
	r := &rig{Case: c, name: c.Name + z.suffix(), site: newSite(), size: z, put: func(string, string, float64) {}}
	name := rigPrefix + string(rune('a'+number%26)) + strconv.Itoa(os.Getpid())
	topo := lab.Default()
	topo.Gateway.Name = gwMachine
	topo.Sites, topo.Gateway.Uplinks = nil, nil
	var err error
	r.lab, err = lab.New(name, lab.Options{Bin: bin, Topology: topo})
	return r, err
}

// up makes the rig, and returns when the VM reaches the Internet. A rig that
// failed is gone again.
func (r *rig) up(ctx context.Context) error {
	if err := r.lab.Down(); err != nil {
		return err
	}
	err := r.make(ctx)
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("%s: %w", r.name, err), r.down())
}

func (r *rig) make(ctx context.Context) error {
	for _, d := range []string{"run", "log"} {
		if err := os.MkdirAll(filepath.Join(r.lab.Dir(), d), 0o755); err != nil {
			return err
		}
	}
	if err := r.wire(ctx); err != nil {
		return err
	}
	before, err := r.memory()
	if err != nil {
		return err
	}
	if err := r.setUp(r, ctx); err != nil {
		return err
	}
	if r.ours == nil {
		if err := r.grown(before, "tenant", r.size.Tenants); err != nil {
			return err
		}
	}
	if r.host, err = r.attachHost(); err != nil {
		return err
	}
	if r.sink, err = r.attachSink(); err != nil {
		return err
	}
	if _, err := r.start(inetMachine, "iperf3", "iperf3", "-s", "-p", strconv.Itoa(int(r.site.streamPort))); err != nil {
		return err
	}
	return r.lab.Ping(ctx, vmMachine, r.site.service, 20*time.Second)
}

// down removes every trace of the rig.
func (r *rig) down() error {
	var errs []error
	if r.ours != nil {
		r.ours.client.Close()
	}
	if r.host != nil {
		errs = append(errs, r.host.close())
	}
	if r.sink != nil {
		errs = append(errs, r.sink.close())
	}
	return errors.Join(append(errs, r.lab.Down())...)
}

// wire makes the machines and the links between them, and configures all but the
// gateway.
func (r *rig) wire(ctx context.Context) error {
	s := r.site
	machines := []string{vmMachine, hostMachine, inetMachine}
	far := inetMachine // whom the host is wired to
	farLink, farMAC := "gw0", s.internetMAC
	if !r.direct {
		machines = append(machines, gwMachine)
		far, farLink, farMAC = gwMachine, "pa0", s.fabricMAC
	}
	for _, m := range machines {
		if err := r.machine(ctx, m); err != nil {
			return err
		}
	}
	queues := "numtxqueues 1 numrxqueues 1"
	links := []string{
		fmt.Sprintf("link add v0 %s mtu %d type veth peer name eth0 %s netns %s address %s mtu %d",
			queues, r.mtu(), queues, r.lab.NS(vmMachine), s.vmMAC, r.mtu()),
		fmt.Sprintf("link add pa0 %s address %s type veth peer name %s %s netns %s address %s",
			queues, s.hostMAC, farLink, queues, r.lab.NS(far), farMAC),
		"link set v0 up", "link set pa0 up",
		fmt.Sprintf("addr add %s dev pa0", netip.PrefixFrom(s.hostPA, s.fabric.Bits())),
		fmt.Sprintf("addr add %s dev pa0", netip.PrefixFrom(s.otherPA, s.fabric.Bits())),
	}
	if err := r.ip(ctx, hostMachine, links...); err != nil {
		return err
	}
	err := r.ip(ctx, vmMachine,
		// Outer headers must still fit the length field of IP.
		"link set eth0 up gso_max_size 65000",
		fmt.Sprintf("addr add %s/32 dev eth0", s.ca),
		fmt.Sprintf("route add %s dev eth0 scope link", s.router),
		fmt.Sprintf("neigh add %s lladdr %s dev eth0 nud permanent", s.router, routerMAC()),
		fmt.Sprintf("route add default via %s", s.router))
	if err != nil {
		return err
	}
	if !r.direct {
		err := r.ip(ctx, gwMachine,
			fmt.Sprintf("link add ext0 %s address %s type veth peer name gw0 %s netns %s address %s",
				queues, s.externalMAC, queues, r.lab.NS(inetMachine), s.internetMAC),
			"link set pa0 up", "link set ext0 up",
			fmt.Sprintf("addr add %s dev ext0", netip.PrefixFrom(s.external, s.outside.Bits())),
			fmt.Sprintf("route add default via %s", s.internet))
		if err != nil {
			return err
		}
	}
	err = r.ip(ctx, inetMachine, "link set gw0 up",
		fmt.Sprintf("addr add %s dev gw0", netip.PrefixFrom(s.internet, s.outside.Bits())),
		fmt.Sprintf("addr add %s/32 dev lo", s.service))
	if err != nil {
		return err
	}
	return r.offloads(ctx, far, farLink)
}

// machine makes a namespace.
func (r *rig) machine(ctx context.Context, name string) error {
	if err := netns.Create(r.lab.NS(name)); err != nil {
		return err
	}
	if _, err := r.lab.Exec(ctx, name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"); err != nil {
		return err
	}
	return r.ip(ctx, name, "link set lo up")
}

// offloads makes links like NICs: what the host and the Internet send has the size
// of the wire, what the gateway receives is put together, and what it sends need
// not be taken apart by it.
func (r *rig) offloads(ctx context.Context, far, farLink string) error {
	onWire := []string{"tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-udp-segmentation",
		"tx-gre-segmentation", "tx-gre-csum-segmentation", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"}
	off := func(link string) []string {
		argv := []string{"ethtool", "-K", link}
		for _, f := range onWire {
			argv = append(argv, f, "off")
		}
		return argv
	}
	set := map[string][][]string{
		hostMachine: {off("pa0"), {"ethtool", "-K", "pa0", "gro", "on"}},
		inetMachine: {off("gw0"), {"ethtool", "-K", "gw0", "gro", "on"}},
	}
	if far == gwMachine {
		set[gwMachine] = [][]string{{"ethtool", "-K", farLink, "gro", "on"}, {"ethtool", "-K", "ext0", "gro", "on"}}
	}
	for m, commands := range set {
		for _, c := range commands {
			if _, err := r.lab.Exec(ctx, m, c...); err != nil {
				return err
			}
		}
	}
	return nil
}

// ip runs ip(8) commands on the machine.
func (r *rig) ip(ctx context.Context, machine string, lines ...string) error {
	_, err := r.lab.ExecInput(ctx, machine, strings.Join(lines, "\n")+"\n", "ip", "-batch", "-")
	if err != nil {
		return fmt.Errorf("on %s: %w", machine, err)
	}
	return nil
}

// start starts a daemon on the machine.
func (r *rig) start(machine, name string, argv ...string) (*lab.Process, error) {
	p, err := r.lab.Start(machine, name, argv...)
	if err == nil {
		r.daemons = append(r.daemons, p)
	}
	return p, err
}

// ctl runs gatewayctl, for however long it takes.
func (r *rig) ctl(ctx context.Context, argv ...string) (string, error) {
	argv = append([]string{filepath.Join(r.lab.Bin(), "gatewayctl"), "--socket", r.lab.Socket(gwMachine)}, argv...)
	return r.lab.Exec(ctx, gwMachine, argv...)
}

// joinDown takes a rig down and adds what failed at it.
func joinDown(err error, r *rig) error { return errors.Join(err, r.down()) }

// retry calls f until it succeeds, for ten seconds.
func retry(ctx context.Context, f func() error) error {
	for end := time.Now().Add(10 * time.Second); ; {
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// within runs f in the machine's namespace, on a thread of its own.
func (r *rig) within(machine string, f func() error) error {
	return netns.Do(netns.Path(r.lab.NS(machine)), f)
}
