package gobgp

import (
	"time"

	"github.com/osrg/gobgp/v4/api"

	"github.com/hnvgate/hnvgate/bgp"
)

func family(f bgp.Family) *api.Family {
	afi := api.Family_AFI_IP
	if f == bgp.IPv6 {
		afi = api.Family_AFI_IP6
	}
	return &api.Family{Afi: afi, Safi: api.Family_SAFI_UNICAST}
}

// countedLimit is the highest prefix limit that is left to the library: it counts
// all prefixes of a neighbour with each message, which for large numbers is most of
// the work there is. Higher limits are package speaker's to watch.
const countedLimit = 1000

// Watched tells whether a peer's limit of the family is package speaker's to watch,
// and what it is.
func Watched(p *bgp.Peer, f bgp.Family) (limit uint32, watched bool) {
	limit = p.MaxPrefixes[f]
	if limit == 0 {
		limit = bgp.DefaultMaxPrefixes
	}
	return limit, limit > countedLimit && p.Address.IsValid()
}

// peer is a bgp.Peer with an address in the library's terms. Policies are not in it.
// Watched limits are in it with enforce.
func peer(p *bgp.Peer, enforce bool) *api.Peer {
	m := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: p.Address.String(), PeerAsn: p.ASN, AuthPassword: string(p.Password), Description: p.Name,
			RemovePrivate: removePrivate(p.RemovePrivateAS), AllowOwnAsn: uint32(p.AllowOwnAS), ReplacePeerAsn: p.ASOverride,
			AdminDown: p.Disabled,
		},
		Timers: timers(p), Transport: &api.Transport{RemotePort: uint32(p.Port), PassiveMode: p.Passive},
		EbgpMultihop: multihop(p), TtlSecurity: ttlSecurity(p), GracefulRestart: gracefulRestart(p), AfiSafis: afiSafis(p, enforce), Bfd: bfd(p),
	}
	if p.Local.IsValid() {
		m.Transport.LocalAddress = p.Local.String()
	}
	return m
}

// group is a bgp.Peer with a prefix.
func group(p *bgp.Peer) *api.PeerGroup {
	return &api.PeerGroup{
		Conf: &api.PeerGroupConf{
			PeerGroupName: p.Name, PeerAsn: p.ASN, AuthPassword: string(p.Password), Description: p.Name,
			RemovePrivate: removePrivate(p.RemovePrivateAS), AllowOwnAsn: uint32(p.AllowOwnAS), ReplacePeerAsn: p.ASOverride,
		},
		Timers: timers(p), Transport: &api.Transport{RemotePort: uint32(p.Port), PassiveMode: true},
		EbgpMultihop: multihop(p), TtlSecurity: ttlSecurity(p), GracefulRestart: gracefulRestart(p), AfiSafis: afiSafis(p, true), Bfd: bfd(p),
	}
}

func removePrivate(r bgp.RemovePrivateAS) api.RemovePrivate {
	switch r {
	case bgp.RemovePrivate:
		return api.RemovePrivate_REMOVE_PRIVATE_ALL
	case bgp.ReplacePrivateAS:
		return api.RemovePrivate_REMOVE_PRIVATE_REPLACE
	default:
		return api.RemovePrivate_REMOVE_PRIVATE_UNSPECIFIED
	}
}

func or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

func secs(d time.Duration) uint64 { return uint64(d / time.Second) }

func timers(p *bgp.Peer) *api.Timers {
	retry := secs(or(p.ConnectRetry, bgp.DefaultConnectRetry))
	return &api.Timers{Config: &api.TimersConfig{
		HoldTime: secs(or(p.Hold, bgp.DefaultHold)), KeepaliveInterval: secs(p.Keepalive),
		ConnectRetry: retry, IdleHoldTimeAfterReset: retry,
	}}
}

func multihop(p *bgp.Peer) *api.EbgpMultihop {
	return &api.EbgpMultihop{Enabled: p.MultihopTTL > 0, MultihopTtl: uint32(p.MultihopTTL)}
}

// ttlSecurity: a packet that was sent with 255 and came over n links, so through
// n-1 routers, has at least 256-n left.
func ttlSecurity(p *bgp.Peer) *api.TtlSecurity {
	if p.TTLSecurity == 0 {
		return &api.TtlSecurity{}
	}
	return &api.TtlSecurity{Enabled: true, TtlMin: 256 - uint32(p.TTLSecurity)}
}

func gracefulRestart(p *bgp.Peer) *api.GracefulRestart {
	g := p.GracefulRestart
	if g == nil {
		return &api.GracefulRestart{}
	}
	t := uint32(secs(or(g.Time, bgp.DefaultRestartTime)))
	return &api.GracefulRestart{
		Enabled: true, RestartTime: t, DeferralTime: t, NotificationEnabled: g.Notification, LonglivedEnabled: g.LongLived > 0,
	}
}

func afiSafis(p *bgp.Peer, enforce bool) []*api.AfiSafi {
	var out []*api.AfiSafi
	for _, f := range p.Exchanged() {
		a := &api.AfiSafi{Config: &api.AfiSafiConfig{Family: family(f), Enabled: true}, PrefixLimits: &api.PrefixLimit{Family: family(f)}}
		if limit, watched := Watched(p, f); enforce || !watched {
			a.PrefixLimits.MaxPrefixes, a.PrefixLimits.ShutdownThresholdPct = limit, 90
		}
		if g := p.GracefulRestart; g != nil {
			a.MpGracefulRestart = &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}}
			a.LongLivedGracefulRestart = &api.LongLivedGracefulRestart{Config: &api.LongLivedGracefulRestartConfig{
				Enabled: g.LongLived > 0, RestartTime: uint32(secs(g.LongLived)),
			}}
		}
		out = append(out, a)
	}
	return out
}

func bfd(p *bgp.Peer) *api.BfdPeerConfig {
	if p.BFD == nil {
		return &api.BfdPeerConfig{}
	}
	b, d := *p.BFD, bgp.DefaultBFD()
	us := uint32(or(b.Interval, d.Interval) / time.Microsecond)
	if b.Multiplier == 0 {
		b.Multiplier = d.Multiplier
	}
	return &api.BfdPeerConfig{Enabled: true, DesiredMinimumTxInterval: us, RequiredMinimumReceive: us, DetectionMultiplier: uint32(b.Multiplier)}
}
