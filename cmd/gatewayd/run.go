package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"slices"

	"github.com/hnvgate/hnvgate/api/server"
	"golang.org/x/sync/errgroup"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/control"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/offload"
	"github.com/hnvgate/hnvgate/forwarder"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/config"
	"github.com/hnvgate/hnvgate/nat"
	"github.com/hnvgate/hnvgate/store"
)

// run wires the parts together and works until ctx ends.
func run(ctx context.Context, c config.Config) (err error) {
	log := c.Log.Logger(os.Stderr).With("instance", c.Instance)
	closers := []func() error{}
	defer func() {
		for i := len(closers) - 1; i >= 0; i-- {
			err = errors.Join(err, closers[i]())
		}
	}()

	engine, err := compartments.New(machine(c, log))
	if err != nil {
		return err
	}
	closers = append(closers, engine.Close)
	feet, err := openForwarder(c, log)
	if err != nil {
		return err
	}
	if feet != nil {
		closers = append(closers, feet.Close)
	}
	if len(c.Uplinks) > 0 {
		if err := nat.Probe(); err != nil {
			return err
		}
	}
	l, err := server.Listen(server.SocketOptions{Path: c.Socket, Group: c.SocketGroup})
	if err != nil {
		return err
	}
	closers = append(closers, func() error { return ignoreClosed(l.Close()) })
	ends := listeners{socket: l}
	if c.Listen != nil {
		tl, err := server.ListenTLS(ctx, remoteAPI(c.Listen, log))
		if err != nil {
			return err
		}
		ends.remote = &remote{TLSListener: tl}
		closers = append(closers, func() error { return ignoreClosed(ends.remote.Close()) })
	}

	keys, err := openSecrets(c, log)
	if err != nil {
		return err
	}
	var ctrl *control.Controller // there before anything is learned, or an agent told
	supervisor, err := openAgents(c, keys, log, func(n hnv.Name) { ctrl.AgentNews(n) })
	if err != nil {
		return err
	}
	if supervisor != nil {
		closers = append(closers, func() error { supervisor.Close(); return nil })
	}
	st, err := store.Open(ctx, store.Options{Dir: c.StateDir, Site: site(c), Log: log})
	if err != nil {
		return err
	}
	closers = append(closers, func() error { st.Close(); return nil })

	mtu := func() int { return paMTU(c.PAInterfaces) }
	sw := dataplane.New(dataplane.Options{
		DefaultACL: hnv.ACLAction(c.ACLDefault),
		OnError:    func(port string, err error) { log.Warn("packets were not sent", "port", port, "err", err) },
		OnLearn:    func(e dataplane.LearnEvent) { ctrl.Learned(e) },
	})
	way, err := openPath(c, log, func(o offload.Options) (*offload.FastPath, error) { return offload.Open(sw, o) })
	if err != nil {
		return err
	}
	way.openUplink(c, log)
	closers = append(closers, way.close)
	wire, err := control.NewWire(sw, way.wire(c, control.WireOptions{MTU: mtu, Log: log}))
	if err != nil {
		return err
	}
	closers = append(closers, wire.Close)

	ctrl = control.New(control.Options{
		Settled: lazyGC(),
		Store:   st, Compartments: engine, NAT: nat.New(log), Dataplane: sw, Wiring: wire, Sight: wire.Sight(), PAMTU: mtu, Log: log,
		Exits: way.exits(), NATOffload: c.NATOffload == config.OffloadAll, NoNATOffload: way.untranslated(c),
		Forwarder: attaches(feet), Explain: forwarder.Explain, Neighbours: forwarder.Neighbours, Agents: forControl(supervisor), Open: keys.Open, WireGuard: implementation(c), Uplinks: uplinkInterfaces(c),
	})
	x, err := newExchange(c, st, log)
	if err != nil {
		return err
	}
	closers = append(closers, x.Close)
	backend := &gateway{Controller: ctrl, config: c, features: features(c, way, engine, feet), path: way, remote: ends.remote, exchange: x}
	return serve(ctx, ends, server.New(st, backend, keys, log), log, ctrl.Run, x.Run,
		func(ctx context.Context) error { sw.Run(ctx); return nil })
}

// startGC is how much garbage there may be at the start, in percent of what is in use:
// most of what is made then is thrown away at once.
const startGC = 400

// lazyGC has garbage collected seldom until what it gives is called.
func lazyGC() func() {
	usual := debug.SetGCPercent(startGC)
	if usual < 0 || usual > startGC { // somebody wants it so
		debug.SetGCPercent(usual)
	}
	return func() {
		debug.SetGCPercent(usual)
		debug.FreeOSMemory()
	}
}

// serve runs the API and the others until ctx ends or one of them fails.
func serve(ctx context.Context, l listeners, api *server.Server, log *slog.Logger, others ...func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return api.Serve(ctx, l.socket) })
	if l.remote != nil {
		g.Go(func() error { return api.ServeTLS(ctx, l.remote.TLSListener) })
		log.Info("the API listens for other machines", "address", l.remote.Addr().String())
	}
	for _, run := range others {
		g.Go(func() error { return run(ctx) })
	}
	log.Info("gatewayd is at work", "version", version, "socket", l.socket.Addr().String())
	err := g.Wait()
	log.Info("gatewayd ends; compartments and NAT stay in the kernel")
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func machine(c config.Config, log *slog.Logger) compartments.Config {
	m := compartments.Config{Instance: c.Instance, PAInterfaces: c.PAInterfaces, Log: log}
	for _, u := range c.Uplinks {
		m.Uplinks = append(m.Uplinks, compartments.Uplink{Name: u.Name, Kind: u.Kind, Interface: u.Interface})
	}
	return m
}

func site(c config.Config) hnv.Site {
	s := hnv.Site{PAInterfaces: c.PAInterfaces, UplinkKinds: map[string]string{}, Checks: []func(*hnv.Fabric, hnv.Name) error{control.Check}}
	for _, u := range c.Uplinks {
		s.Uplinks = append(s.Uplinks, u.Name)
		s.UplinkKinds[u.Name] = u.Kind
	}
	return s
}

func uplinkInterfaces(c config.Config) map[string]string {
	out := map[string]string{}
	for _, u := range c.Uplinks {
		out[u.Name] = u.Interface
	}
	return out
}

// paMTU is the least MTU of the PA interfaces, 1500 while none is there.
func paMTU(names []string) int {
	least := 0
	for _, n := range names {
		if mtu, _, err := linkState(n); err == nil && (least == 0 || mtu < least) {
			least = mtu
		}
	}
	if least == 0 {
		return 1500
	}
	return least
}

// gateway is what the API asks, with what only this process knows added.
type gateway struct {
	*control.Controller
	config   config.Config
	features []v1.Feature
	path     path
	remote   *remote // nil: the API is for this machine only
	exchange *exchange
}

func (g *gateway) Version() v1.Version { return versions() }

func (g *gateway) Status(context.Context) (v1.GatewayStatus, error) {
	s := g.Controller.Status(g.uplinks())
	s.Instance, s.Version, s.Features = g.config.Instance, versions(), g.features
	s.FastPath = g.path.status()
	g.remoteStatus(&s)
	g.peerStatus(&s)
	return s, nil
}

func (g *gateway) Compartments(context.Context) ([]v1.Compartment, error) {
	return g.Controller.Compartments(), nil
}

func (g *gateway) uplinks() []v1.LinkStatus {
	out := []v1.LinkStatus{}
	for _, u := range g.config.Uplinks {
		s := v1.LinkStatus{Name: u.Name, Interface: u.Interface, Phase: v1.PhaseReady}
		mtu, up, err := linkState(u.Interface)
		switch {
		case err != nil:
			s.Phase, s.Message = v1.PhaseError, fmt.Sprintf("interface %s is not there: %v", u.Interface, err)
		case !up:
			s.Phase, s.Message = v1.PhaseError, fmt.Sprintf("interface %s is down: set it up", u.Interface)
		}
		s.MTU = mtu
		out = append(out, s)
	}
	return out
}

func features(c config.Config, p path, e *compartments.Engine, feet *forwarder.Engine) []v1.Feature {
	out := append(p.features(), p.uplinkFeatures(c)...)
	if len(c.Uplinks) > 0 {
		out = append(out, agentFeature(c))
	}
	if feet != nil {
		for _, f := range feet.Features() {
			out = append(out, kernelFeature(f.Name, f.OK, f.Note))
		}
	}
	for _, f := range e.Features() {
		out = append(out, kernelFeature(f.Name, f.OK, f.Note))
	}
	return out
}

func kernelFeature(name string, ok bool, note string) v1.Feature {
	f := v1.Feature{Name: name, Path: "kernel", Reason: note}
	if !ok {
		f.Path = "none"
	}
	return f
}

// openForwarder makes the engine of attachments; nil on a machine that has no uplink
// on which they have links of their own.
func openForwarder(c config.Config, log *slog.Logger) (*forwarder.Engine, error) {
	if !slices.ContainsFunc(c.Uplinks, func(u config.Uplink) bool { return u.Kind != config.KindRouted }) {
		return nil, nil
	}
	return forwarder.New(forwarder.Config{Instance: c.Instance, Log: log})
}

func attaches(e *forwarder.Engine) control.Forwarder {
	if e == nil {
		return nil // and not an interface of nothing
	}
	return e
}
