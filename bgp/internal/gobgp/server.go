package gobgp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	lib "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"

	"github.com/hnvgate/hnvgate/bgp"
)

// Handlers are told what happens, in order and on one goroutine each; they must not
// call the Server back.
type Handlers struct {
	// Paths of the table's best, several for a prefix where they are equally good.
	Paths func([]BestPath)
	// Peer is told of each change of a session.
	Peer func(PeerEvent)
	// EndOfRIB: the peer has told all of its routes of the family.
	EndOfRIB func(peer netip.Addr, f bgp.Family)
}

// PeerEvent is a change of a session.
type PeerEvent struct {
	Peer        netip.Addr
	Group       string // the name of the bgp.Peer, of a dynamic neighbour
	Established bool
	Idle        bool // the session ended, or an attempt at one
	Graceful    bool // it is to come again, and routes stay
	OverLimit   bool
	Reason      string // of its end; "" while it is up or nothing is known
}

// Server is one speaker.
type Server struct {
	lib   *server.BgpServer
	stop  context.CancelFunc
	peers map[string]bgp.Peer // by name, as given to the library
	// detecting are the peers, by name, whose BFD session is on.
	detecting map[string]bool
}

// Start makes a speaker for the Spec's AS, router ID and sockets. Peers, policies
// and routes come later.
func Start(spec *bgp.Spec, log *slog.Logger, h Handlers) (*Server, error) {
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{
		lib:  server.NewBgpServer(server.LoggerOption(log, nil)),
		stop: stop, peers: map[string]bgp.Peer{}, detecting: map[string]bool{},
	}
	go s.lib.Serve()
	fail := func(err error) (*Server, error) {
		stop()
		s.lib.Stop()
		return nil, err
	}
	if err := s.lib.StartBgp(ctx, &api.StartBgpRequest{Global: global(spec)}); err != nil {
		return fail(fmt.Errorf("start speaker: %w", err))
	}
	if err := s.assignPolicies(ctx); err != nil {
		return fail(fmt.Errorf("start speaker: %w", err))
	}
	err := s.lib.WatchEvent(ctx, server.WatchEventMessageCallbacks{
		OnBestPath: func(paths []*apiutil.Path, _ time.Time) { h.Paths(bestPaths(paths, spec.ASN)) },
		OnPeerUpdate: func(e *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
			if e.Type == apiutil.PEER_EVENT_STATE {
				h.Peer(peerEvent(e.Peer))
			}
		},
		OnPathEor: func(p *apiutil.Path, _ time.Time) {
			if f, ok := familyFrom(p.Family); ok {
				h.EndOfRIB(p.PeerAddress.Unmap(), f)
			}
		},
	}, server.WatchBestPath(false), server.WatchPeer(), server.WatchEor(false))
	if err != nil {
		return fail(fmt.Errorf("start speaker: %w", err))
	}
	return s, nil
}

func global(spec *bgp.Spec) *api.Global {
	port := int32(spec.Port)
	if port == 0 {
		port = lib.BGP_PORT
	}
	g := &api.Global{
		Asn: spec.ASN, RouterId: spec.RouterID.String(), ListenPort: port,
		// IPv4 and IPv6 unicast, as the library numbers them here. All families would
		// cost ten times the memory.
		Families:         []uint32{0, 1},
		UseMultiplePaths: true,
	}
	for _, a := range spec.Listen {
		g.ListenAddresses = append(g.ListenAddresses, a.String())
	}
	return g
}

// Known are the peers as they were added or last changed.
func (s *Server) Known() []bgp.Peer {
	return slices.SortedFunc(maps.Values(s.peers), func(a, b bgp.Peer) int { return cmp.Compare(a.Name, b.Name) })
}

// Stop ends all sessions. With graceful they are cut without a word: those that agreed
// on graceful restart keep the routes, and nobody takes the end for a fault.
func (s *Server) Stop(graceful bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		if graceful {
			hangUp(s.neighbours())
		}
		for _, p := range s.Known() {
			_ = s.Detect(ctx, p.Name, false)
		}
		err := s.lib.StopBgp(ctx, &api.StopBgpRequest{AllowGracefulRestart: graceful})
		s.stop()
		s.lib.Stop()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("the speaker did not stop")
	}
}

// neighbours are where the peers' sessions lead.
func (s *Server) neighbours() (out []netip.Prefix) {
	for _, p := range s.peers {
		if p.Prefix.IsValid() {
			out = append(out, p.Prefix)
		} else if a := p.Address.WithZone(""); a.IsValid() {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}

// stopPatience is how long ending all sessions may take.
const stopPatience = 10 * time.Second

// AddPeer makes a peer. restarting tells it that we kept its routes over our own
// restart.
func (s *Server) AddPeer(ctx context.Context, p bgp.Peer, restarting bool) error {
	if p.Prefix.IsValid() {
		return s.addGroup(ctx, p)
	}
	m := s.message(p, false)
	m.GracefulRestart.LocalRestarting = restarting && p.GracefulRestart != nil
	if err := s.lib.AddPeer(ctx, &api.AddPeerRequest{Peer: m}); err != nil {
		return fmt.Errorf("add peer %s: %w", p.Name, err)
	}
	s.peers[p.Name] = p
	return nil
}

func (s *Server) addGroup(ctx context.Context, p bgp.Peer) error {
	if err := s.lib.AddPeerGroup(ctx, &api.AddPeerGroupRequest{PeerGroup: group(&p)}); err != nil {
		return fmt.Errorf("add peer %s: %w", p.Name, err)
	}
	s.peers[p.Name] = p
	d := &api.DynamicNeighbor{Prefix: p.Prefix.String(), PeerGroup: p.Name}
	if err := s.lib.AddDynamicNeighbor(ctx, &api.AddDynamicNeighborRequest{DynamicNeighbor: d}); err != nil {
		return fmt.Errorf("add peer %s: %w", p.Name, err)
	}
	return nil
}

// DeletePeer ends a peer's session, or those of all its dynamic neighbours, and
// forgets its routes.
func (s *Server) DeletePeer(ctx context.Context, name string) error {
	p, known := s.peers[name]
	if !known {
		return nil
	}
	var err error
	if p.Prefix.IsValid() {
		err = s.deleteGroup(ctx, p)
	} else {
		if err := s.Detect(ctx, name, false); err != nil {
			return fmt.Errorf("delete peer %s: %w", name, err)
		}
		if p.Password != "" {
			bare := p
			bare.Password, bare.Disabled = "", true
			if _, err := s.lib.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: s.message(bare, false)}); err != nil {
				return fmt.Errorf("delete peer %s: %w", name, err)
			}
		}
		err = s.lib.DeletePeer(ctx, &api.DeletePeerRequest{Address: p.Address.String()})
	}
	if err != nil {
		return fmt.Errorf("delete peer %s: %w", name, err)
	}
	delete(s.peers, name)
	return nil
}

func (s *Server) deleteGroup(ctx context.Context, p bgp.Peer) error {
	err := s.lib.DeleteDynamicNeighbor(ctx, &api.DeleteDynamicNeighborRequest{Prefix: p.Prefix.String(), PeerGroup: p.Name})
	if err != nil {
		return err
	}
	var members []string
	err = s.lib.ListPeer(ctx, &api.ListPeerRequest{}, func(m *api.Peer) {
		if m.GetConf().GetPeerGroup() == p.Name || m.GetState().GetPeerGroup() == p.Name {
			members = append(members, m.GetState().GetNeighborAddress())
		}
	})
	if err != nil {
		return err
	}
	for _, a := range members {
		if err := s.lib.DeletePeer(ctx, &api.DeletePeerRequest{Address: a}); err != nil {
			return err
		}
	}
	return s.lib.DeletePeerGroup(ctx, &api.DeletePeerGroupRequest{Name: p.Name})
}

// DeleteNeighbor ends one dynamic neighbour's session.
func (s *Server) DeleteNeighbor(ctx context.Context, a netip.Addr) error {
	return s.lib.DeletePeer(ctx, &api.DeletePeerRequest{Address: a.String()})
}

// ChangeLimits brings a peer's prefix limits and BFD to what p says. The rest of p
// must be as it was, apart from policies. Its session goes on. BFD that changes is
// off until Detect.
func (s *Server) ChangeLimits(ctx context.Context, p bgp.Peer) error {
	if !reflect.DeepEqual(s.peers[p.Name].BFD, p.BFD) {
		if err := s.Detect(ctx, p.Name, false); err != nil {
			return fmt.Errorf("change peer %s: %w", p.Name, err)
		}
	}
	var err error
	if p.Prefix.IsValid() {
		_, err = s.lib.UpdatePeerGroup(ctx, &api.UpdatePeerGroupRequest{PeerGroup: group(&p)})
	} else {
		_, err = s.lib.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: s.message(p, false)})
	}
	if err != nil {
		return fmt.Errorf("change peer %s: %w", p.Name, err)
	}
	s.peers[p.Name] = p
	return nil
}

// Received counts the prefixes of a family that a neighbour sent.
func (s *Server) Received(ctx context.Context, a netip.Addr, f bgp.Family) (uint64, error) {
	r, err := s.lib.GetTable(ctx, &api.GetTableRequest{TableType: api.TableType_TABLE_TYPE_ADJ_IN, Name: a.String(), Family: family(f)})
	return r.GetNumDestination(), err
}

// EnforceLimits puts a peer's watched limits in force, which ends the session of one
// that is over, or takes them out of force before it tries again.
func (s *Server) EnforceLimits(ctx context.Context, p bgp.Peer, on bool) error {
	if _, err := s.lib.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: s.message(p, on)}); err != nil {
		return fmt.Errorf("limit peer %s: %w", p.Name, err)
	}
	return nil
}

// Enable lets a peer try again that is down for too many prefixes.
func (s *Server) Enable(ctx context.Context, a netip.Addr) error {
	return s.lib.EnablePeer(ctx, &api.EnablePeerRequest{Address: a.String()})
}

// SoftReset applies the import policy to what a neighbour sent, the export policy
// to what it is sent, or both, without touching its session.
func (s *Server) SoftReset(ctx context.Context, a netip.Addr, in, out bool) error {
	dir := api.ResetPeerRequest_DIRECTION_BOTH
	switch {
	case in && !out:
		dir = api.ResetPeerRequest_DIRECTION_IN
	case out && !in:
		dir = api.ResetPeerRequest_DIRECTION_OUT
	}
	return s.lib.ResetPeer(ctx, &api.ResetPeerRequest{Address: a.String(), Soft: true, Direction: dir})
}

// Originate adds or replaces own routes.
func (s *Server) Originate(routes []Origination) error {
	return s.each(routes, func(paths []*apiutil.Path) error {
		_, err := s.lib.AddPath(apiutil.AddPathRequest{Paths: paths})
		return err
	})
}

// Withdraw takes own routes back.
func (s *Server) Withdraw(routes []Origination) error {
	return s.each(routes, func(paths []*apiutil.Path) error {
		return s.lib.DeletePath(apiutil.DeletePathRequest{Paths: paths})
	})
}

// each hands routes over in portions: the library serves nobody else meanwhile.
func (s *Server) each(routes []Origination, do func([]*apiutil.Path) error) error {
	for part := range slices.Chunk(routes, 500) {
		paths := make([]*apiutil.Path, 0, len(part))
		for _, r := range part {
			p, err := r.path()
			if err != nil {
				return fmt.Errorf("originate %s: %w", r.Prefix, err)
			}
			paths = append(paths, p)
		}
		if err := do(paths); err != nil {
			return fmt.Errorf("originate %s and others: %w", part[0].Prefix, err)
		}
	}
	return nil
}
