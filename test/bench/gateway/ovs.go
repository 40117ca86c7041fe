//go:build linux

package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
)

// ovsGateway lets Open vSwitch's userspace datapath, which alone of what Debian has
// speaks NVGRE with FlowIDs, carry packets between the fabric and the tenants'
// namespaces. These are as with the kernel's vxlan device.
func (r *rig) ovsGateway(ctx context.Context) error {
	s := r.site
	r.compartment = s.tenant(0).name
	if err := r.startOVS(ctx); err != nil {
		return err
	}
	add := strings.Fields("add-br br-pa -- set bridge br-pa datapath_type=netdev other_config:hwaddr=\"" + s.fabricMAC.String() + "\"" +
		" -- add-port br-pa pa0" +
		" -- add-br br-int -- set bridge br-int datapath_type=netdev fail_mode=secure" +
		" -- add-port br-int nvgre0 -- set interface nvgre0 type=gre options:key=flow options:remote_ip=" + s.hostPA.String())
	if err := r.vsctl(ctx, add...); err != nil {
		return err
	}
	err := r.ip(ctx, gwMachine, "link set br-pa up", fmt.Sprintf("addr add %s dev br-pa", netip.PrefixFrom(s.gatewayPA, s.fabric.Bits())))
	if err != nil {
		return err
	}
	// The kernel has the same address and would answer tunnel packets with "protocol
	// unreachable". Open vSwitch reads them before this hook.
	err = r.nft(ctx, gwMachine, "table netdev guard {\n chain pa0 { type filter hook ingress device pa0 priority 0; policy drop; }\n}\n")
	if err != nil {
		return err
	}
	// Its packet sockets take and give whole, checksummed packets only.
	r.plainFabric = true
	for _, link := range [][2]string{{hostMachine, "pa0"}, {gwMachine, "pa0"}} {
		if _, err := r.lab.Exec(ctx, link[0], "ethtool", "-K", link[1], "tx", "off", "gro", "off"); err != nil {
			return err
		}
	}
	if err := r.routesForTenants(ctx); err != nil {
		return err
	}
	return r.eachTenant(ctx, r.ovsTenant)
}

// ovsTenant wires a tenant's namespace to the bridge and makes the flows of its VSID.
func (r *rig) ovsTenant(ctx context.Context, t tenant) error {
	port := "o" + t.name
	err := r.ip(ctx, gwMachine,
		fmt.Sprintf("link add %s mtu %d type veth peer name wnv netns %s address %s mtu %d",
			port, r.mtu(), r.lab.NS(t.name), hnv.CompartmentMAC(t.gatewayVSID), r.mtu()),
		fmt.Sprintf("link set %s up", port))
	if err != nil {
		return err
	}
	for _, link := range [][2]string{{gwMachine, port}, {t.name, "wnv"}} {
		if _, err := r.lab.Exec(ctx, link[0], "ethtool", "-K", link[1], "tx", "off"); err != nil {
			return err
		}
	}
	if err := r.tenantNAT(ctx, t, "wnv"); err != nil {
		return err
	}
	if err := r.vsctl(ctx, "add-port", "br-int", port); err != nil {
		return err
	}
	key := t.gatewayVSID.Uint32() << 8
	for _, flow := range []string{
		fmt.Sprintf("in_port=nvgre0,tun_id=%#x/0xffffff00 actions=output:%s", key, port),
		fmt.Sprintf("in_port=%s,ip actions=set_field:%#x->tun_id,output:nvgre0", port, key|7),
	} {
		argv := []string{"ovs-ofctl", "--timeout=60", "add-flow", "unix:" + filepath.Join(r.ovsDir(), "br-int.mgmt"), flow}
		if _, err := r.lab.Exec(ctx, gwMachine, r.ovsEnv(argv)...); err != nil {
			return err
		}
	}
	return nil
}

// startOVS starts Open vSwitch on the gateway, with a database of its own.
func (r *rig) startOVS(ctx context.Context) error {
	conf, db := filepath.Join(r.ovsDir(), "conf.db"), "unix:"+filepath.Join(r.ovsDir(), "db.sock")
	if _, err := r.lab.Exec(ctx, gwMachine, "ovsdb-tool", "create", conf, "/usr/share/openvswitch/vswitch.ovsschema"); err != nil {
		return err
	}
	if _, err := r.start(gwMachine, "ovsdb", r.ovsEnv([]string{"ovsdb-server", conf, "--remote=p" + db})...); err != nil {
		return err
	}
	if err := retry(ctx, func() error { return r.vsctl(ctx, "--no-wait", "init") }); err != nil {
		return err
	}
	_, err := r.start(gwMachine, "vswitchd", r.ovsEnv([]string{"ovs-vswitchd", db})...)
	return err
}

func (r *rig) ovsDir() string { return r.lab.Dir() }

func (r *rig) ovsEnv(argv []string) []string {
	d := r.ovsDir()
	return append([]string{"env", "OVS_RUNDIR=" + d, "OVS_LOGDIR=" + d, "OVS_DBDIR=" + d, "OVS_SYSCONFDIR=" + d}, argv...)
}

func (r *rig) vsctl(ctx context.Context, argv ...string) error {
	argv = append([]string{"ovs-vsctl", "--timeout=60", "--db=unix:" + filepath.Join(r.ovsDir(), "db.sock")}, argv...)
	_, err := r.lab.Exec(ctx, gwMachine, r.ovsEnv(argv)...)
	return err
}
