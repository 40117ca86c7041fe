//go:build privileged && linux

package scenario

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// TestDSCP pings from VMs of both tenants, with the same addresses and the same
// DSCP, and reads what is on the wire: each tenant's outer headers carry what was
// asked for that tenant, as a host sends them and as the gateway does; congestion
// bits are copied whatever the DSCP is (RFC 6040).
func TestDSCP(t *testing.T) {
	const inner, ecn = 46, 1 // expedited forwarding, ECT(1)
	machines := []string{"gw", "h1"}
	for _, x := range world.Topology().Tenants {
		for _, m := range machines {
			undo(t, m, "tenant", "set", x.Name, "--dscp", "")
		}
	}
	ways := map[string][]string{}
	for _, p := range []string{"c", "f"} {
		for _, dst := range []netip.Addr{vm(t, p+"12").CA, vm(t, p+"21").CA, vm(t, p+"13").CA6, internet()} {
			ways[p+"11"] = append(ways[p+"11"], dst.String())
			if err := world.Ping(t.Context(), p+"11", dst, patience); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, round := range []map[string]string{
		{"contoso": "0", "fabrikam": "10"},
		{"contoso": "34", "fabrikam": "copy"},
		{"contoso": "copy", "fabrikam": "0"},
	} {
		t.Run(fmt.Sprintf("contoso %s, fabrikam %s", round["contoso"], round["fabrikam"]), func(t *testing.T) {
			for name, dscp := range round {
				for _, m := range machines {
					ctl(t, m, "tenant", "set", name, "--dscp", dscp)
				}
			}
			settled(t, machines...)
			files := listening(t, map[string]string{"fab": "any"}, "(proto gre or udp port 4789) and (src host 192.168.1.1 or src host 192.168.1.11)", func() {
				var g errgroup.Group
				for from, list := range ways {
					for _, dst := range list {
						g.Go(func() error {
							_, err := world.Exec(t.Context(), from, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "10", "-Q", strconv.Itoa(inner<<2|ecn), dst)
							return err
						})
					}
				}
				if err := g.Wait(); err != nil {
					t.Error(err)
				}
			})
			seen := outerFields(t, files["fab"])
			for name, dscp := range round {
				want := map[string]string{"0": "0", "10": "10", "34": "34", "copy": strconv.Itoa(inner)}[dscp]
				for _, from := range []string{"requests of IPv4 from the host", "requests of IPv6 from the host", "answers from the gateway"} {
					fields := seen[name+": "+from]
					if len(fields) != 1 || fields[outside{want, strconv.Itoa(ecn), strconv.Itoa(inner)}] == 0 {
						t.Errorf("%s of %s, DSCP %s, carry %+v, want DSCP %s", from, name, dscp, fields, want)
					}
				}
			}
		})
	}
}

// outside is what an outer header carries, and the DSCP inside.
type outside struct{ dscp, ecn, inner string }

// outerFields reads the headers of echoes on the fabric, and counts packets by
// whose they are, from where, and what they carry.
func outerFields(t *testing.T, file string) map[string]map[outside]int {
	t.Helper()
	out := map[string]map[outside]int{}
	for _, row := range dissect(t, file, "icmp.type == 8 || icmp.type == 0 || icmpv6.type == 128",
		"gre.key", "ip.src", "icmp.type", "icmpv6.type", "ip.dsfield.dscp", "ip.dsfield.ecn", "ipv6.tclass.dscp") {
		from := ""
		switch src, _, _ := strings.Cut(row[1], ","); {
		case src == "192.168.1.1" && row[2] == "0":
			from = "answers from the gateway"
		case src == "192.168.1.11" && row[2] == "8":
			from = "requests of IPv4 from the host"
		case src == "192.168.1.11" && row[3] == "128":
			from = "requests of IPv6 from the host"
		default:
			continue
		}
		dscp, inner, _ := strings.Cut(row[4], ",")
		ecn, _, _ := strings.Cut(row[5], ",")
		name := tenantByKey(row[0]) + ": " + from
		if out[name] == nil {
			out[name] = map[outside]int{}
		}
		out[name][outside{dscp, ecn, inner + row[6]}]++
	}
	return out
}

// The rate of what is limited, and the least burst of a token bucket.
const (
	slowKbps  = 4000
	slowBytes = slowKbps * 1000 / 8 // a second
	burst     = 72 << 10
)

// transfer is a stream of so many bytes, downwards from a VM or the Internet, or
// upwards to it, and whether a limit is in its way.
type transfer struct {
	client, server string // server "": the Internet
	direction      service.Direction
	limited        bool
}

func (x transfer) String() string {
	return fmt.Sprintf("%s at %s %s", x.client, cmp.Or(x.server, "the Internet"), x.direction)
}

// measured carries out the transfers at the same time. The limited ones take as
// long as the limit says, however fast the machine is; the others, which are
// larger, are far from needing the time that they would at that rate.
func measured(t *testing.T, transfers ...transfer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var g errgroup.Group
	for _, x := range transfers {
		g.Go(func() error {
			size := int64(4 << 20)
			if x.limited {
				size = 1 << 20
			}
			dst := internet()
			if x.server != "" {
				dst = vm(t, x.server).CA
			}
			least := time.Duration(size-burst) * time.Second / slowBytes
			r, err := passes(ctx, x.client, dst, service.StreamRequest{Direction: x.direction, Bytes: size})
			for tries := 1; err == nil && !x.limited && r.Elapsed > least && tries < 3; tries++ { // the machine may be busy
				r, err = passes(ctx, x.client, dst, service.StreamRequest{Direction: x.direction, Bytes: size})
			}
			if err != nil {
				return fmt.Errorf("%v: %w", x, err)
			}
			switch {
			case x.limited && r.Elapsed < least*8/10:
				return fmt.Errorf("%v: %d bytes took %v: at the rate that limits it, at least %v", x, size, r.Elapsed, least)
			case !x.limited && r.Elapsed > least:
				return fmt.Errorf("%v: %d bytes took %v: another's limit would explain it, with %v", x, size, r.Elapsed, least)
			}
			t.Logf("%v: %d bytes in %v", x, size, r.Elapsed.Round(time.Millisecond))
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// passes carries out one transfer.
func passes(ctx context.Context, from string, dst netip.Addr, r service.StreamRequest) (service.StreamReport, error) {
	s, err := world.StartStream(from, dst, r)
	if err != nil {
		return service.StreamReport{}, err
	}
	defer s.Stop()
	return s.Wait(ctx)
}

// tooFast is how many packets of the tenant exceeded a rate on the machines.
func tooFast(t *testing.T, tenant string) uint64 {
	t.Helper()
	var n uint64
	for _, m := range []string{"gw", "h1"} {
		s, err := world.Status(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		n += lab.Dropped(s, tenant, "rate-exceeded")
	}
	return n
}

// TestRates limits a port of one tenant on a host, and all of the tenant on the
// gateway, the first tenant in what the VM sends and the second in what it gets:
// the limits bind, and bind nobody else, neither another port of the tenant nor
// the other tenant's port with the same addresses. Whoever takes packets that have
// no limit takes these.
func TestRates(t *testing.T) {
	slow := strconv.Itoa(slowKbps)
	for _, c := range []struct {
		limited, free string
		port          lab.PortSettings
		rate          string
		own           []transfer
		others        []transfer
	}{
		{"contoso", "fabrikam", lab.PortSettings{OutKbps: slowKbps}, "--in-kbps",
			[]transfer{{"c13", "c11", service.Down, true}, {"c12", "", service.Up, true}, {"c13", "c22", service.Down, false}},
			[]transfer{{"f13", "f11", service.Down, false}, {"f12", "", service.Up, false}}},
		{"fabrikam", "contoso", lab.PortSettings{InKbps: slowKbps}, "--out-kbps",
			[]transfer{{"f11", "f13", service.Down, true}, {"f12", "", service.Down, true}, {"f22", "f13", service.Down, false}},
			[]transfer{{"c11", "c13", service.Down, false}, {"c12", "", service.Down, false}}},
	} {
		t.Run(c.limited, func(t *testing.T) {
			setPort(t, c.limited[:1]+"11", c.port)
			ctl(t, "gw", "tenant", "set", c.limited, c.rate, slow)
			undo(t, "gw", "tenant", "set", c.limited, c.rate, "0")
			settled(t, "gw", "h1")
			for _, m := range []string{"gw", "h1"} {
				onPath(t, m, pathOf(t, m)) // what has a rate as well
			}
			before, others := tooFast(t, c.limited), tooFast(t, c.free)
			measured(t, slices.Concat(c.own, c.others)...)
			if tooFast(t, c.limited) == before {
				t.Errorf("no packet of %s is counted as too fast", c.limited)
			}
			if n := tooFast(t, c.free) - others; n != 0 {
				t.Errorf("%d packets of %s are counted as too fast, which has no limit", n, c.free)
			}
		})
	}
	// What had been limited is not any more.
	settled(t, "gw", "h1")
	measured(t, transfer{"c13", "c11", service.Down, false}, transfer{"c12", "", service.Up, false},
		transfer{"f11", "f13", service.Down, false}, transfer{"f12", "", service.Down, false})
}
