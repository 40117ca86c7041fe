package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// SpeakerOptions are what a site's BGP speaker does beside the usual: sessions
// to the gateway at the end of each tunnel and link, over IPv4 and IPv6, watched by
// BFD where the speaker has it, that advertise the site's networks. Of several
// ways the first is preferred.
type SpeakerOptions struct {
	// Neighbor is put into the configuration of each session, in the speaker's own
	// language; of FRR a line of it is what follows "neighbor ADDRESS".
	Neighbor string
	// Extra is put at the end of the configuration.
	Extra string
	// Networks are advertised beside the site's own.
	Networks []netip.Prefix
	bfd      int // ms between its packets
}

// session is one of a site's BGP sessions.
type session struct {
	name           string // gw0, gw0v6, ...
	link           string
	local, gateway netip.Addr
	preference     int
}

func (s Site) sessions() (out []session) {
	pref := 200
	if s.Link != nil {
		out = append(out, session{"dc", "gw0", s.Link.Router.Addr(), s.Link.Gateway, pref})
	}
	for i, t := range s.Tunnels {
		link := fmt.Sprintf("wg%d", i)
		out = append(out,
			session{fmt.Sprintf("gw%dv4", i), link, t.Inside.Addr(), t.Gateway().Addr(), pref - 10*i},
			session{fmt.Sprintf("gw%dv6", i), link, t.Inside6.Addr(), t.Gateway6().Addr(), pref - 10*i})
	}
	return out
}

// daemons names the processes of the site's speaker, in the order of their start.
func (s Site) daemons() []string {
	switch s.Speaker {
	case FRR:
		return []string{"zebra", "bfdd", "bgpd"}
	case BIRD:
		return []string{"bird"}
	}
	return []string{"gobgpd"}
}

func (s Site) process(daemon string) string { return daemon + "-" + s.Name }

// StartSpeaker starts the site's BGP speaker, or starts it anew, and returns when
// it answers.
func (l *Lab) StartSpeaker(ctx context.Context, site string, o SpeakerOptions) error {
	s, err := l.topo.Site(site)
	if err != nil {
		return err
	}
	if err := l.StopSpeaker(ctx, site, syscall.SIGTERM); err != nil {
		return err
	}
	dir := l.speakerDir(s)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	o.bfd = int(l.opts.BFD.Milliseconds())
	switch s.Speaker {
	case FRR:
		return l.startFRR(ctx, s, dir, o)
	case BIRD:
		return l.startBIRD(ctx, s, dir, o)
	}
	return l.startGoBGP(ctx, s, dir, o)
}

func (l *Lab) speakerDir(s Site) string { return filepath.Join(l.dir, s.Name, string(s.Speaker)) }

// StopSpeaker ends the site's BGP speaker by the signal.
func (l *Lab) StopSpeaker(ctx context.Context, site string, sig syscall.Signal) error {
	s, err := l.topo.Site(site)
	if err != nil {
		return err
	}
	d := s.daemons()
	for i := range d {
		if err := l.stop(ctx, s.process(d[len(d)-1-i]), sig); err != nil {
			return err
		}
	}
	return nil
}

// gone waits until the process has ended and its file is removed, so that it can
// be started anew under its name.
func (l *Lab) gone(ctx context.Context, name string, id identity) error {
	file := filepath.Join(l.dir, "run", name+".json")
	for {
		_, err := os.Stat(file)
		if err != nil && !id.alive() {
			return nil
		}
		if !id.alive() && err == nil {
			// Its starter may have ended before it: then nobody removes the file.
			time.Sleep(50 * time.Millisecond)
			_ = os.Remove(file)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not end: %w", name, context.Cause(ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Speaker asks the site's speaker in its own language: one command of vtysh, birdc
// or gobgp.
func (l *Lab) Speaker(ctx context.Context, site, command string) (string, error) {
	s, err := l.topo.Site(site)
	if err != nil {
		return "", err
	}
	dir := l.speakerDir(s)
	switch s.Speaker {
	case FRR:
		return l.Exec(ctx, site, "vtysh", "--vty_socket", dir, "-c", command)
	case BIRD:
		return l.Exec(ctx, site, append([]string{"birdc", "-s", filepath.Join(dir, "bird.ctl")}, strings.Fields(command)...)...)
	}
	return l.Exec(ctx, site, append([]string{"gobgp"}, strings.Fields(command)...)...)
}
