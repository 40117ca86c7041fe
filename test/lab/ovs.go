package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// ovsHost is an HNV host by Open vSwitch's userspace datapath. br-pa carries
// the provider address and the outer packets, br-int the VMs and the tunnel:
// one GRE port whose key and destination the flows set.
type ovsHost struct {
	lab *Lab
	h   Host

	mu    sync.Mutex
	state *hostState
}

func (o *ovsHost) portMachine(string) string { return o.h.Name }

// The userspace datapath reads plain packet sockets: what a VM leaves to the
// NIC (checksums, segmentation) would stay undone.
func (o *ovsHost) offloads() bool { return false }

func (o *ovsHost) rundir() string { return filepath.Join(o.lab.dir, "ovs-"+o.h.Name) }

func (o *ovsHost) db() string { return "unix:" + filepath.Join(o.rundir(), "db.sock") }

func (o *ovsHost) env() []string {
	d := o.rundir()
	return append(os.Environ(), "OVS_RUNDIR="+d, "OVS_LOGDIR="+d, "OVS_DBDIR="+d, "OVS_SYSCONFDIR="+d)
}

func (o *ovsHost) vsctl(ctx context.Context, argv ...string) error {
	argv = append([]string{"ovs-vsctl", "--timeout=60", "--db=" + o.db()}, argv...)
	_, err := runEnv(ctx, o.env(), "", o.lab.inNS(o.h.Name, argv...)...)
	return err
}

func (o *ovsHost) up(ctx context.Context) error {
	d := o.rundir()
	if err := os.MkdirAll(d, 0o755); err != nil {
		return err
	}
	conf := filepath.Join(d, "conf.db")
	if _, err := run(ctx, "", "ovsdb-tool", "create", conf, "/usr/share/openvswitch/vswitch.ovsschema"); err != nil {
		return err
	}
	db, err := o.lab.startEnv(o.h.Name, "ovsdb-"+o.h.Name, o.env(), "ovsdb-server", conf, "--remote=p"+o.db())
	if err != nil {
		return err
	}
	if err := db.waitFor(ctx, func() error { return o.vsctl(ctx, "--no-wait", "init") }); err != nil {
		return err
	}
	if _, err := o.lab.startEnv(o.h.Name, "vswitchd-"+o.h.Name, o.env(), "ovs-vswitchd", o.db()); err != nil {
		return err
	}
	if err := o.guard(ctx); err != nil {
		return err
	}
	add := strings.Fields("add-br br-pa -- set bridge br-pa datapath_type=netdev other_config:hwaddr=\"" + MACOf(o.h.PA.Addr()) + "\"" +
		" -- add-port br-pa pa0" +
		" -- add-br br-int -- set bridge br-int datapath_type=netdev fail_mode=secure" +
		" -- add-port br-int nvgre0 -- set interface nvgre0 type=gre options:key=flow options:remote_ip=flow")
	for _, vm := range o.lab.topo.VMs {
		if vm.Host == o.h.Name {
			add = append(add, "--", "add-port", "br-int", vm.Port())
			o.state.local[vm.Port()] = vm
		}
	}
	if err := o.vsctl(ctx, add...); err != nil {
		return err
	}
	subnet, err := o.lab.topo.paSubnet(o.h.PA.Addr())
	if err != nil {
		return err
	}
	err = o.lab.ip(ctx, o.h.Name,
		"link set br-pa up",
		fmt.Sprintf("addr add %s dev br-pa", o.h.PA),
		fmt.Sprintf("route add %s via %s", fabricPrefix, subnet.Router.Addr()))
	if err != nil {
		return err
	}
	return o.install(ctx)
}

// guard keeps the kernel from also receiving what arrives on pa0: it has the
// same address on br-pa and would answer tunnel packets with "protocol
// unreachable". Open vSwitch reads the packets before this hook.
func (o *ovsHost) guard(ctx context.Context) error {
	_, err := o.lab.ExecInput(ctx, o.h.Name, `table netdev guard {
	chain pa0 { type filter hook ingress device pa0 priority 0; policy drop; }
}
`, "nft", "-f", "-")
	return err
}

// install replaces br-int's flows by those of the state; traffic of flows that
// stay is not disturbed.
func (o *ovsHost) install(ctx context.Context) error {
	file := filepath.Join(o.rundir(), "flows")
	if err := os.WriteFile(file, []byte(strings.Join(o.state.flows(), "\n")+"\n"), 0o644); err != nil {
		return err
	}
	argv := []string{"ovs-ofctl", "--timeout=60", "--protocols=OpenFlow14", "replace-flows", "unix:" + filepath.Join(o.rundir(), "br-int.mgmt"), file}
	_, err := runEnv(ctx, o.env(), "", o.lab.inNS(o.h.Name, argv...)...)
	return err
}

func (o *ovsHost) attach(ctx context.Context, vm VM) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.vsctl(ctx, "add-port", "br-int", vm.Port()); err != nil {
		return err
	}
	o.state.local[vm.Port()] = vm
	return o.install(ctx)
}

func (o *ovsHost) detach(ctx context.Context, vm VM) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.state.local, vm.Port())
	if err := o.install(ctx); err != nil {
		return err
	}
	return o.vsctl(ctx, "del-port", "br-int", vm.Port())
}

func (o *ovsHost) setRecord(ctx context.Context, _ Tenant, r Record) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state.records[recordKey{r.VSID, r.CA}] = r
	return o.install(ctx)
}

func (o *ovsHost) removeRecord(ctx context.Context, _ Tenant, r Record) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.state.records, recordKey{r.VSID, r.CA})
	return o.install(ctx)
}

// AskOthers has an Open vSwitch host pass on ARP requests that it has no record to
// answer by to the other hosts of the virtual subnet, as the kernel's vxlan hosts
// always do, or no longer.
func (l *Lab) AskOthers(ctx context.Context, machine string, asks bool) error {
	o, ok := l.hosts[machine].(*ovsHost)
	if !ok {
		return fmt.Errorf("ask others: %s is no Open vSwitch host of the lab", machine)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state.asks = asks
	return o.install(ctx)
}
