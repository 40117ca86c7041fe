package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// ownedByFRR gives the folder to FRR's user, as whom its daemons insist to run.
func ownedByFRR(dir string) error {
	u, err := user.Lookup("frr")
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	return os.Chown(dir, uid, gid)
}

func (l *Lab) startFRR(ctx context.Context, s Site, dir string, o SpeakerOptions) error {
	if err := ownedByFRR(dir); err != nil {
		return err
	}
	for _, d := range s.daemons() {
		config, args := "hostname "+s.Name+"\n", []string(nil)
		switch d {
		case "zebra":
			args = []string{"-s", "8000000"}
		case "bgpd":
			config += frrConfig(s, o)
		}
		conf := filepath.Join(dir, d+".conf")
		if err := os.WriteFile(conf, []byte(config), 0o644); err != nil {
			return err
		}
		vty := filepath.Join(dir, d+".vty")
		_ = os.Remove(vty)
		p, err := l.Start(s.Name, s.process(d), append([]string{
			"/usr/lib/frr/" + d, "-f", conf, "-i", filepath.Join(dir, d+".pid"), "-z", filepath.Join(dir, "zserv.api"),
			"--vty_socket", dir, "-P", "0", "--log", "stdout",
		}, args...)...)
		if err != nil {
			return err
		}
		err = p.waitFor(ctx, func() error {
			_, err := os.Stat(vty)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// frrConfig writes bgpd's.
func frrConfig(s Site, o SpeakerOptions) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("router bgp %d", s.ASN)
	line(" bgp router-id %s", s.LAN.Addr())
	line(" no bgp ebgp-requires-policy\n no bgp network import-check\n no bgp default ipv4-unicast\n timers bgp 3 9")
	for _, n := range s.sessions() {
		line(" neighbor %s remote-as %d", n.gateway, GatewayASN)
		line(" neighbor %s timers connect 1", n.gateway)
		line(" neighbor %s advertisement-interval 0", n.gateway)
		line(" neighbor %s bfd 3 %d %d", n.gateway, o.bfd, o.bfd)
		for extra := range strings.Lines(o.Neighbor) {
			line(" neighbor %s %s", n.gateway, strings.TrimSpace(extra))
		}
	}
	for _, four := range []bool{true, false} {
		family := map[bool]string{true: "ipv4", false: "ipv6"}[four]
		line(" address-family %s unicast", family)
		for _, p := range append([]netip.Prefix{s.LAN.Masked(), s.LAN6.Masked()}, o.Networks...) {
			if p.Addr().Is4() == four {
				line("  network %s", p)
			}
		}
		for _, n := range s.sessions() {
			if n.gateway.Is4() == four {
				line("  neighbor %s activate", n.gateway)
				line("  neighbor %s soft-reconfiguration inbound", n.gateway)
				line("  neighbor %s route-map prefer-%d in", n.gateway, n.preference)
			}
		}
		line(" exit-address-family")
	}
	line("exit")
	for _, n := range s.sessions() {
		if n.gateway.Is4() { // both families of a tunnel have the same
			line("route-map prefer-%d permit 10\n set local-preference %d\nexit", n.preference, n.preference)
		}
	}
	return b.String() + o.Extra
}

func (l *Lab) startBIRD(ctx context.Context, s Site, dir string, o SpeakerOptions) error {
	conf, ctl := filepath.Join(dir, "bird.conf"), filepath.Join(dir, "bird.ctl")
	if err := os.WriteFile(conf, []byte(birdConfig(s, o)), 0o600); err != nil {
		return err
	}
	p, err := l.Start(s.Name, s.process("bird"), "bird", "-f", "-c", conf, "-s", ctl)
	if err != nil {
		return err
	}
	return p.waitFor(ctx, func() error {
		_, err := l.Speaker(ctx, s.Name, "show status")
		return err
	})
}

func birdConfig(s Site, o SpeakerOptions) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("log stderr all;\nrouter id %s;\nprotocol device { scan time 1; }", s.LAN.Addr())
	line(`protocol direct { ipv4; ipv6; interface "lan0"; }`)
	for i, family := range []string{"ipv4", "ipv6"} {
		line("protocol kernel { %s { export where source = RTS_BGP; }; }", family)
		line("protocol static {\n %s;", family)
		for _, p := range o.Networks {
			if p.Addr().Is4() == (i == 0) {
				line(" route %s blackhole;", p)
			}
		}
		line("}")
	}
	line("protocol bfd { interface \"wg*\", \"gw*\" { interval %d ms; multiplier 3; }; }", o.bfd)
	for _, n := range s.sessions() {
		family := map[bool]string{true: "ipv4", false: "ipv6"}[n.gateway.Is4()]
		line("protocol bgp %s {\n local %s as %d;\n neighbor %s as %d;", n.name, n.local, s.ASN, n.gateway, GatewayASN)
		line(" hold time 9; keepalive time 3; connect retry time 1; connect delay time 1; error wait time 1, 2;\n bfd on;")
		line(" %s {\n  import table on;\n  import filter { bgp_local_pref = %d; accept; };", family, n.preference)
		line("  export where source = RTS_DEVICE || source = RTS_STATIC || source = RTS_BGP;\n };\n %s\n}", o.Neighbor)
	}
	return b.String() + o.Extra
}

func (l *Lab) startGoBGP(ctx context.Context, s Site, dir string, o SpeakerOptions) error {
	conf := filepath.Join(dir, "gobgpd.toml")
	if err := os.WriteFile(conf, []byte(gobgpConfig(s, o)), 0o600); err != nil {
		return err
	}
	p, err := l.Start(s.Name, s.process("gobgpd"), "gobgpd", "-f", conf, "--api-hosts", "127.0.0.1:50051", "--pprof-disable")
	if err != nil {
		return err
	}
	for _, n := range append([]netip.Prefix{s.LAN.Masked(), s.LAN6.Masked()}, o.Networks...) {
		family := map[bool]string{true: "ipv4", false: "ipv6"}[n.Addr().Is4()]
		err = p.waitFor(ctx, func() error {
			_, err := l.Speaker(ctx, s.Name, fmt.Sprintf("global rib add -a %s %s", family, n))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func gobgpConfig(s Site, o SpeakerOptions) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[global.config]\nas = %d\nrouter-id = %q\n", s.ASN, s.LAN.Addr())
	for _, n := range s.sessions() {
		family := map[bool]string{true: "ipv4-unicast", false: "ipv6-unicast"}[n.gateway.Is4()]
		fmt.Fprintf(&b, `
[[neighbors]]
[neighbors.config]
neighbor-address = %q
peer-as = %d
[neighbors.timers.config]
connect-retry = 1
hold-time = 9
keepalive-interval = 3
[neighbors.transport.config]
local-address = %q
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = %q
%s
`, n.gateway, GatewayASN, n.local, family, o.Neighbor)
	}
	return b.String() + o.Extra
}
