package lab

import (
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// wireGuardDir is where wireguard-go has its control sockets, of the whole machine;
// each of the lab's has one of its own there.
const wireGuardDir = "/run/wireguard"

// StartSites starts, on the routers of the sites named, or of all, their ends of
// the tunnels and their BGP speakers. A tunnel works after ConnectSite.
func (l *Lab) StartSites(ctx context.Context, names ...string) error {
	var sites []Site
	for _, n := range names {
		s, err := l.topo.Site(n)
		if err != nil {
			return err
		}
		sites = append(sites, s)
	}
	if len(names) == 0 {
		sites = l.topo.Sites
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range sites {
		g.Go(func() error {
			for i := range s.Tunnels {
				if err := l.startTunnel(ctx, s, i); err != nil {
					return fmt.Errorf("site %s: tunnel %d: %w", s.Name, i, err)
				}
			}
			if s.Speaker == NoSpeaker {
				return nil
			}
			if err := l.StartSpeaker(ctx, s.Name, SpeakerOptions{}); err != nil {
				return fmt.Errorf("site %s: %w", s.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// StopSites ends what StartSites started at all sites: nobody calls the gateway any
// more.
func (l *Lab) StopSites(ctx context.Context) error {
	var errs []error
	for _, s := range l.topo.Sites {
		errs = append(errs, l.StopSpeaker(ctx, s.Name, syscall.SIGTERM))
		for i := range s.Tunnels {
			errs = append(errs, l.stop(ctx, tunnelProcess(s, i), syscall.SIGTERM))
		}
	}
	return errors.Join(errs...)
}

func tunnelProcess(s Site, i int) string { return fmt.Sprintf("wireguard-%s-%d", s.Name, i) }

// startTunnel runs wireguard-go with a key that is new.
func (l *Lab) startTunnel(ctx context.Context, s Site, i int) error {
	if err := os.MkdirAll(wireGuardDir, 0o755); err != nil {
		return err
	}
	dir := filepath.Join(l.dir, s.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	for end, b := range map[string][]byte{"key": key.Bytes(), "pub": key.PublicKey().Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("wg%d.%s", i, end)), []byte(base64.StdEncoding.EncodeToString(b)+"\n"), 0o600); err != nil {
			return err
		}
	}
	link := fmt.Sprintf("wg%d", i)
	p, err := l.startEnv(s.Name, tunnelProcess(s, i), append(os.Environ(), "LOG_LEVEL=error", "WG_PROCESS_FOREGROUND=1"),
		"unshare", "--mount", "--propagation", "slave", "sh", "-c", "mount -t tmpfs tmpfs "+wireGuardDir+` && exec "$0" "$@"`, cmp.Or(l.opts.WireGuard, "wireguard-go"), "-f", link)
	if err != nil {
		return err
	}
	// Told again and again until it hears.
	err = p.waitFor(ctx, func() error {
		_, err := l.wg(ctx, s, i, "", "set", link, "listen-port", strconv.Itoa(int(WireGuardPort(i))),
			"fwmark", strconv.Itoa(wanMark(i)), "private-key", filepath.Join(dir, fmt.Sprintf("wg%d.key", i)))
		return err
	})
	if err != nil {
		return err
	}
	t := s.Tunnels[i]
	lines := []string{
		fmt.Sprintf("addr add %s dev %s", t.Inside, link), fmt.Sprintf("addr add %s dev %s", t.Inside6, link),
		fmt.Sprintf("link set %s mtu 1420 up", link),
	}
	if i == 0 && (s.Speaker == GoBGP || s.Speaker == NoSpeaker) {
		for _, p := range l.topo.beyond(s) {
			lines = append(lines, fmt.Sprintf("route add %s dev %s", p, link))
		}
	}
	return l.ip(ctx, s.Name, lines...)
}

// wg runs wg(8) where the socket of the site's I-th wireguard-go is.
func (l *Lab) wg(ctx context.Context, s Site, i int, stdin string, argv ...string) (string, error) {
	var id identity
	if err := readJSON(filepath.Join(l.dir, "run", tunnelProcess(s, i)+".json"), &id); err != nil {
		return "", err
	}
	return run(ctx, stdin, append([]string{"nsenter", "--target", strconv.Itoa(id.PID), "--mount", "--net", "--", "wg"}, argv...)...)
}

// SiteKey gives the public key of the site's I-th tunnel.
func (l *Lab) SiteKey(site string, i int) (string, error) {
	b, err := os.ReadFile(filepath.Join(l.dir, site, fmt.Sprintf("wg%d.pub", i)))
	return strings.TrimSpace(string(b)), err
}

// ConnectSite gives the site's I-th tunnel its only peer, the gateway: its public
// key, where it is, and the pre-shared key or "". It lets everything through the
// tunnel; the way there is BGP's to say.
func (l *Lab) ConnectSite(ctx context.Context, site string, i int, gateway string, endpoint netip.AddrPort, psk string) error {
	s, err := l.topo.Site(site)
	if err != nil {
		return err
	}
	link := fmt.Sprintf("wg%d", i)
	out, err := l.wg(ctx, s, i, "", "show", link, "peers")
	if err != nil {
		return err
	}
	for old := range strings.FieldsSeq(out) {
		if old == gateway {
			continue
		}
		if _, err := l.wg(ctx, s, i, "", "set", link, "peer", old, "remove"); err != nil {
			return err
		}
	}
	file := filepath.Join(l.dir, site, fmt.Sprintf("wg%d.psk", i))
	if err := os.WriteFile(file, []byte(psk), 0o600); err != nil {
		return err
	}
	_, err = l.wg(ctx, s, i, "", "set", link, "peer", gateway, "preshared-key", file, "endpoint", endpoint.String(),
		"allowed-ips", "0.0.0.0/0,::/0", "persistent-keepalive", "5")
	return err
}

// SitePeer is one of many peers of a site's tunnel.
type SitePeer struct {
	PublicKey  string
	Endpoint   netip.AddrPort
	AllowedIPs []netip.Prefix
}

// AddSitePeers gives the site's I-th tunnel peers beside those that it has.
func (l *Lab) AddSitePeers(ctx context.Context, site string, i int, peers []SitePeer) error {
	s, err := l.topo.Site(site)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, p := range peers {
		fmt.Fprintf(&b, "[Peer]\nPublicKey = %s\nEndpoint = %s\nPersistentKeepalive = 25\n", p.PublicKey, p.Endpoint)
		for _, a := range p.AllowedIPs {
			fmt.Fprintf(&b, "AllowedIPs = %s\n", a)
		}
	}
	_, err = l.wg(ctx, s, i, b.String(), "addconf", fmt.Sprintf("wg%d", i), "/dev/stdin")
	return err
}

// SiteWG shows what wg(8) knows of the site's I-th tunnel: "latest-handshakes",
// "transfer" and so on.
func (l *Lab) SiteWG(ctx context.Context, site string, i int, what string) (string, error) {
	s, err := l.topo.Site(site)
	if err != nil {
		return "", err
	}
	return l.wg(ctx, s, i, "", "show", fmt.Sprintf("wg%d", i), what)
}

// SetSiteWG gives the site's I-th tunnel a configuration file's text, as wg-quick
// would: without the keys that wg(8) does not know.
func (l *Lab) SetSiteWG(ctx context.Context, site string, i int, text string) error {
	s, err := l.topo.Site(site)
	if err != nil {
		return err
	}
	key, err := os.ReadFile(filepath.Join(l.dir, site, fmt.Sprintf("wg%d.key", i)))
	if err != nil {
		return err
	}
	var conf strings.Builder
	for line := range strings.Lines(text) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "Address", "MTU", "DNS", "Table", "PreUp", "PostUp", "PreDown", "PostDown", "PrivateKey":
			continue
		}
		conf.WriteString(line)
		if word == "[Interface]" {
			fmt.Fprintf(&conf, "PrivateKey = %sFwMark = %d\n", key, wanMark(i))
		}
	}
	_, err = l.wg(ctx, s, i, conf.String(), "setconf", fmt.Sprintf("wg%d", i), "/dev/stdin")
	return err
}

// Cut lets nothing through any more on the site's I-th way to the Internet, without
// a sign to anybody; Mend ends that.
func (l *Lab) Cut(ctx context.Context, site string, i int) error {
	s, err := l.topo.Site(site)
	if err != nil {
		return err
	}
	port := ispPort(s, i)
	_, err = l.ExecInput(ctx, "inet", fmt.Sprintf(
		"table inet cut-%s { chain f { type filter hook forward priority -300; iifname %q drop; oifname %q drop; }; }", port, port, port), "nft", "-f", "-")
	return err
}

// Mend ends a Cut; without one it does nothing.
func (l *Lab) Mend(ctx context.Context, site string, i int) error {
	s, err := l.topo.Site(site)
	if err != nil {
		return err
	}
	table := "cut-" + ispPort(s, i)
	_, err = l.ExecInput(ctx, "inet", fmt.Sprintf("table inet %s\ndelete table inet %s\n", table, table), "nft", "-f", "-")
	return err
}

// stop ends a process of the lab by its name; one that does not run is no error.
func (l *Lab) stop(ctx context.Context, name string, sig syscall.Signal) error {
	var id identity
	err := readJSON(filepath.Join(l.dir, "run", name+".json"), &id)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := id.signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	return l.gone(ctx, name, id)
}

// MoveSite has the site's I-th tunnel listen, and send, at another port.
func (l *Lab) MoveSite(ctx context.Context, site string, i int, port uint16) error {
	s, err := l.topo.Site(site)
	if err != nil {
		return err
	}
	_, err = l.wg(ctx, s, i, "", "set", fmt.Sprintf("wg%d", i), "listen-port", strconv.Itoa(int(port)))
	return err
}
