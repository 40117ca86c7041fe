//go:build linux

package s2s

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// bare is two machines joined by wireguard-go. With hosts, one is behind each of
// them, and they route.
type bare struct {
	ground
	name, from, to string // case, and what is measured
	links          [2]string
}

const (
	bareInside       = "169.254.9.2" // of the far machine
	routedVM, routed = "10.1.1.11", "172.16.1.10"
)

func newBare(ctx context.Context, bin, wireguard string, hosts bool) (b *bare, err error) {
	b = &bare{name: "bare", from: "near", to: bareInside}
	machines, letter := []string{"near", "far"}, 'w'
	if hosts {
		b.name, b.from, b.to = "routed", "vm", routed
		machines, letter = append(machines, "vm", "pc"), 'x'
	}
	for i := range b.links { // their control sockets lie in a folder of the whole machine
		b.links[i] = fmt.Sprintf("b%c%x%d", letter, os.Getpid(), i)
	}
	b.ground, err = newGround(ctx, bin, letter, machines...)
	g := b.ground
	defer func() {
		if err != nil {
			err = errors.Join(err, b.down())
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := g.wire(ctx, "wan", "near", "192.0.2.1/30", "far", "192.0.2.2/30"); err != nil {
		return nil, err
	}
	keys := map[string]*ecdh.PrivateKey{}
	for _, m := range []string{"near", "far"} {
		if keys[m], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return nil, err
		}
	}
	for i, e := range []struct{ machine, other, inside, otherWAN string }{
		{"near", "far", "169.254.9.1", "192.0.2.2"}, {"far", "near", bareInside, "192.0.2.1"},
	} {
		link := b.links[i]
		if _, err := g.Start(e.machine, "wireguard-"+e.machine, "env", "LOG_LEVEL=error", "WG_PROCESS_FOREGROUND=1", wireguard, "-f", link); err != nil {
			return nil, err
		}
		file := filepath.Join(g.Dir(), e.machine+".key")
		if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(keys[e.machine].Bytes())+"\n"), 0o600); err != nil {
			return nil, err
		}
		err = poll(ctx, 20*time.Millisecond, "wireguard-go", func() (bool, error) {
			_, err := g.Exec(ctx, e.machine, "wg", "set", link, "listen-port", "51820", "private-key", file,
				"peer", base64.StdEncoding.EncodeToString(keys[e.other].PublicKey().Bytes()), "endpoint", e.otherWAN+":51820", "allowed-ips", "0.0.0.0/0")
			return err == nil, err
		})
		if err != nil {
			return nil, err
		}
		if err := g.ip(ctx, e.machine, fmt.Sprintf("addr add %s/30 dev %s", e.inside, link), fmt.Sprintf("link set %s mtu 1420 up", link)); err != nil {
			return nil, err
		}
	}
	server := "far"
	if hosts {
		server = "pc"
		if err := b.behind(ctx); err != nil {
			return nil, err
		}
	}
	_, err = g.Start(server, "iperf3", "iperf3", "-s")
	return b, err
}

// behind puts a host behind each machine.
func (b *bare) behind(ctx context.Context) error {
	for _, x := range []struct{ machine, host, link, addr, router, other, via string }{
		{"near", "vm", "lan", routedVM, "10.1.1.1", "172.16.1.0/24", b.links[0]},
		{"far", "pc", "lan", routed, "172.16.1.1", "10.1.1.0/24", b.links[1]},
	} {
		if err := b.wire(ctx, x.link, x.machine, x.router+"/24", x.host, x.addr+"/24"); err != nil {
			return err
		}
		if err := b.ip(ctx, x.host, "route add default via "+x.router); err != nil {
			return err
		}
		if err := b.ip(ctx, x.machine, fmt.Sprintf("route add %s dev %s", x.other, x.via)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bare) down() error {
	var errs []error
	for _, link := range b.links {
		// Killed, it leaves its socket.
		if err := os.Remove("/run/wireguard/" + link + ".sock"); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(b.Down(), errors.Join(errs...))
}

// client runs commands on a machine.
type client interface {
	Exec(ctx context.Context, machine string, argv ...string) (string, error)
}

// tcp measures both ways.
func tcp(ctx context.Context, c client, from, to string, d time.Duration, streams int, put func(metric, unit string, v float64)) error {
	for _, way := range []struct {
		metric string
		args   []string
	}{{"tcp_up", nil}, {"tcp_down", []string{"-R"}}} {
		rate, err := iperf(ctx, c, from, append([]string{"-c", to, "-t", strconv.FormatFloat(d.Seconds(), 'f', -1, 64), "-P", strconv.Itoa(streams)}, way.args...))
		if err != nil {
			return err
		}
		put(way.metric, "bit/s", rate)
	}
	return nil
}

// busyServer is what iperf3 says to whoever comes while its server is between two
// clients.
const busyServer = "unable to receive control message"

func iperf(ctx context.Context, c client, from string, args []string) (rate float64, err error) {
	for range 5 {
		var out string
		if out, err = c.Exec(ctx, from, append([]string{"iperf3", "-J", "--connect-timeout", "10000"}, args...)...); err == nil {
			var report struct {
				Error string
				End   struct {
					Received struct {
						Rate float64 `json:"bits_per_second"`
					} `json:"sum_received"`
				} `json:"end"`
			}
			if err := json.Unmarshal([]byte(out), &report); err != nil {
				return 0, fmt.Errorf("iperf3's report: %w", err)
			}
			if report.End.Received.Rate > 0 {
				return report.End.Received.Rate, nil
			}
			err = fmt.Errorf("iperf3 connected, but nothing was received: %s", report.Error)
		}
		if !strings.Contains(err.Error(), busyServer) {
			break
		}
		time.Sleep(300 * time.Millisecond)
	}
	return 0, err
}
