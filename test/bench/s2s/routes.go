//go:build linux

package s2s

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/compartments/agent"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/hnv/peering"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/seal"
)

const (
	senderASN, receiverASN   = 65001, 65000
	senderAddr, receiverAddr = "10.0.0.2", "10.0.0.1"
)

// host runs a command that belongs to no machine.
func host(ctx context.Context, argv ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// receivers are the programs that are told of routes. start runs one on machine rx
// and tells its processes; stop ends it, and what it made in the kernel goes with the
// machine.
func receivers() []receiver {
	return []receiver{{"hnvgate", startAgent}, {"frr", startFRR}, {"bird", startBIRD}}
}

type receiver struct {
	name  string
	start func(ctx context.Context, g ground) (pids func() []int, stop func() error, err error)
}

// routeTime is how long a route may take; some seconds for 10,000 are usual.
const routeTime = 600 * time.Microsecond

// routes measures one receiver with so many routes.
func routes(ctx context.Context, bin string, r receiver, n int, put func(metric, unit string, v float64)) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute+time.Duration(n)*routeTime)
	defer cancel()
	g, err := newGround(ctx, bin, 'r', "rx", "tx")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Down()) }()
	if err := g.wire(ctx, "wan", "rx", receiverAddr+"/30", "tx", senderAddr+"/30"); err != nil {
		return err
	}
	sender, err := startSender(ctx, g, n)
	if err != nil {
		return err
	}
	pids, stop, err := r.start(ctx, g)
	if err != nil {
		return fmt.Errorf("start %s: %w", r.name, err)
	}
	defer func() { err = errors.Join(err, stop()) }()
	err = poll(ctx, 5*time.Millisecond, r.name+" gets no session", func() (bool, error) {
		out, err := sender("show", "protocols", "feed")
		return strings.Contains(out, "Established"), err
	})
	if err != nil {
		return err
	}
	begin := time.Now()
	last := 0
	err = poll(ctx, 20*time.Millisecond, r.name, func() (bool, error) {
		now, err := g.fib(ctx, "rx")
		if err == nil {
			last = now
		}
		return last >= n, err
	})
	if err != nil {
		return fmt.Errorf("%d of %d routes are in the kernel: %w", last, n, err)
	}
	put("routes_to_kernel", "s", time.Since(begin).Seconds())
	memory, err := pss(pids()...)
	if err != nil {
		return err
	}
	put("routes_memory", "B", memory)
	return nil
}

// fib counts the prefixes in the machine's routing tables for IPv4.
func (g ground) fib(ctx context.Context, machine string) (int, error) {
	out, err := g.Exec(ctx, machine, "cat", "/proc/net/fib_triestat")
	most := 0
	for line := range strings.Lines(out) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "Prefixes:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil {
				return 0, err
			}
			most = max(most, n)
		}
	}
	return most, err
}

// startSender has BIRD wait on machine tx for whom it tells of n routes; the function
// it gives asks it.
func startSender(ctx context.Context, g ground, n int) (ask func(argv ...string) (string, error), err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "log stderr all; router id %s; protocol device {}\nprotocol static { ipv4;\n", senderAddr)
	for i := range n {
		fmt.Fprintf(&b, "route %s/28 blackhole;\n", netip.AddrFrom4([4]byte{byte(20 + i>>20), byte(i >> 12), byte(i >> 4), byte(i << 4)}))
	}
	fmt.Fprintf(&b, "}\nprotocol bgp feed { local %s as %d; neighbor %s as %d; passive; ipv4 { import none; export all; }; }\n", senderAddr, senderASN, receiverAddr, receiverASN)
	dir := g.Dir()
	if err := os.WriteFile(filepath.Join(dir, "tx.conf"), []byte(b.String()), 0o600); err != nil {
		return nil, err
	}
	ctl := filepath.Join(dir, "tx.ctl")
	ask = func(argv ...string) (string, error) {
		return g.Exec(ctx, "tx", append([]string{"birdc", "-s", ctl}, argv...)...)
	}
	if _, err := g.Start("tx", "sender", "bird", "-f", "-c", filepath.Join(dir, "tx.conf"), "-s", ctl); err != nil {
		return nil, err
	}
	return ask, poll(ctx, 20*time.Millisecond, "BIRD that sends", func() (bool, error) {
		out, err := ask("show", "route", "count")
		return strings.Contains(out, strconv.Itoa(n)), err
	})
}

// startAgent runs compartmentd as gatewayd does.
func startAgent(ctx context.Context, g ground) (pids func() []int, stop func() error, err error) {
	s, err := agent.New(agent.Options{Binary: filepath.Join(g.Bin(), "compartmentd"), RunDir: filepath.Join(g.Dir(), "agents"), Key: seal.NewKey()})
	if err != nil {
		return nil, nil, err
	}
	name, err := hnv.ParseName("tenant")
	if err != nil {
		return nil, nil, err
	}
	c := agent.Compartment{Tenant: name, Namespace: netns.Path(g.NS("rx"))}
	spec, err := json.Marshal(peering.Spec{
		ASN: receiverASN, RouterID: netip.MustParseAddr(receiverAddr),
		Peers: []peering.Peer{{
			Name: "feed", Address: netip.MustParseAddr(senderAddr), ASN: senderASN, ConnectRetry: time.Second,
			MaxPrefixes: map[peering.Family]uint32{peering.IPv4: 4_000_000},
		}},
	})
	if err != nil {
		return nil, nil, err
	}
	stop = func() error {
		defer s.Close()
		return s.Remove(context.WithoutCancel(ctx), c)
	}
	pids = func() (out []int) {
		for _, st := range s.Snapshot() {
			out = append(out, st.PID)
		}
		return out
	}
	if _, err := s.Apply(ctx, c, agent.Desired{Parts: map[string]json.RawMessage{agent.BGP: spec}}); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return pids, stop, nil
}

// startFRR runs zebra and bgpd.
func startFRR(ctx context.Context, g ground) (pids func() []int, stop func() error, err error) {
	dir := filepath.Join(g.Dir(), "frr")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	u, err := user.Lookup("frr") // its daemons insist on being this user
	if err != nil {
		return nil, nil, err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		return nil, nil, err
	}
	var ids []int
	for _, d := range []struct {
		name, config string
		args         []string
	}{
		{"zebra", "hostname rx\n", []string{"-s", "8000000"}},
		{"bgpd", fmt.Sprintf("router bgp %d\n bgp router-id %s\n no bgp ebgp-requires-policy\n neighbor %s remote-as %d\n neighbor %s timers connect 1\n",
			receiverASN, receiverAddr, senderAddr, senderASN, senderAddr), nil},
	} {
		conf := filepath.Join(dir, d.name+".conf")
		if err := os.WriteFile(conf, []byte(d.config), 0o644); err != nil {
			return nil, nil, err
		}
		p, err := g.Start("rx", d.name, append([]string{"/usr/lib/frr/" + d.name, "-f", conf, "-i", filepath.Join(dir, d.name+".pid"),
			"-z", filepath.Join(dir, "zserv.api"), "--vty_socket", dir, "-P", "0", "--log", "stdout"}, d.args...)...)
		if err != nil {
			return nil, nil, err
		}
		ids = append(ids, p.PID())
		err = poll(ctx, 10*time.Millisecond, d.name, func() (bool, error) {
			_, err := os.Stat(filepath.Join(dir, d.name+".vty"))
			return err == nil, err
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return func() []int { return ids }, func() error { return nil }, nil
}

// startBIRD runs BIRD.
func startBIRD(_ context.Context, g ground) (pids func() []int, stop func() error, err error) {
	conf := filepath.Join(g.Dir(), "rx.conf")
	err = os.WriteFile(conf, []byte(fmt.Sprintf("log stderr all; router id %s; protocol device {}\nprotocol kernel { ipv4 { export all; import none; }; }\n"+
		"protocol bgp feed { local %s as %d; neighbor %s as %d; connect retry time 1; connect delay time 1; ipv4 { import all; export none; }; }\n",
		receiverAddr, receiverAddr, receiverASN, senderAddr, senderASN)), 0o600)
	if err != nil {
		return nil, nil, err
	}
	p, err := g.Start("rx", "bird", "bird", "-f", "-c", conf, "-s", filepath.Join(g.Dir(), "rx.ctl"))
	if err != nil {
		return nil, nil, err
	}
	return func() []int { return []int{p.PID()} }, func() error { return nil }, nil
}
