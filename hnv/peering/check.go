package peering

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Bounds of a Spec.
const (
	maxPeers      = 512
	maxNetworks   = 20_000
	maxAggregates = 256
	maxECMP       = 64
	maxASTrans    = 23456
)

// faults collects what is wrong, each with its place.
type faults []error

func (f *faults) add(place, format string, args ...any) {
	*f = append(*f, fmt.Errorf("%s: "+format, append([]any{place}, args...)...))
}

// Check says all that is wrong with the Spec, each error with its field. A Spec
// without fault is one that the speaker can carry out.
func (s *Spec) Check() error {
	var f faults
	checkASN(&f, "asn", s.ASN)
	if !s.RouterID.Is4() || s.RouterID.IsUnspecified() || s.RouterID.IsMulticast() {
		f.add("routerID", "%q is not an IPv4 address that a host can have", text(s.RouterID))
	}
	for i, a := range s.Listen {
		if !usable(a) {
			f.add(fmt.Sprintf("listen[%d]", i), "%q is not an address of a host", text(a))
		}
	}
	if s.ECMP < 0 || s.ECMP > maxECMP {
		f.add("ecmp", "%d is not 0 to %d", s.ECMP, maxECMP)
	}
	if len(s.Peers) > maxPeers {
		f.add("peers", "%d are more than %d", len(s.Peers), maxPeers)
	}
	names, addresses, prefixes := map[string]bool{}, map[netip.Addr]string{}, map[netip.Prefix]string{}
	own := s.own()
	for i := range s.Peers {
		p := &s.Peers[i]
		place := fmt.Sprintf("peers[%d]", i)
		if p.Name != "" {
			place = "peer " + p.Name
		}
		if names[p.Name] {
			f.add(place+" name", "%q is there twice", p.Name)
		}
		names[p.Name] = true
		if other, twice := addresses[p.Address]; twice && p.Address.IsValid() {
			f.add(place+" address", "%s is peer %s", p.Address, other)
		}
		if other, twice := prefixes[p.Prefix]; twice && p.Prefix.IsValid() {
			f.add(place+" prefix", "%s is peer %s", p.Prefix, other)
		}
		addresses[p.Address], prefixes[p.Prefix] = p.Name, p.Name
		if own[p.Address] {
			f.add(place+" address", "%s is an address of this speaker", p.Address)
		}
		p.check(&f, place, s.ASN)
	}
	s.checkOriginated(&f)
	return errors.Join(f...)
}

// own are the addresses that the Spec itself says are the speaker's.
func (s *Spec) own() map[netip.Addr]bool {
	own := map[netip.Addr]bool{}
	for _, a := range s.Listen {
		own[a] = true
	}
	for _, p := range s.Peers {
		if p.Local.IsValid() {
			own[p.Local] = true
		}
	}
	delete(own, netip.Addr{})
	return own
}

func (s *Spec) checkOriginated(f *faults) {
	if len(s.Networks) > maxNetworks {
		f.add("networks", "%d are more than %d", len(s.Networks), maxNetworks)
	}
	if len(s.Aggregates) > maxAggregates {
		f.add("aggregates", "%d are more than %d", len(s.Aggregates), maxAggregates)
	}
	seen := map[netip.Prefix]bool{}
	originate := func(place string, p netip.Prefix, a Attributes) {
		if !p.IsValid() || p != p.Masked() {
			f.add(place+" prefix", "%q is not a prefix without host bits", text(p))
			return
		}
		if seen[p] {
			f.add(place+" prefix", "%s is there twice", p)
		}
		seen[p] = true
		checkCommunities(f, place, a.Communities)
	}
	for i, n := range s.Networks {
		originate(fmt.Sprintf("networks[%d]", i), n.Prefix, n.Attributes)
	}
	for i, a := range s.Aggregates {
		place := fmt.Sprintf("aggregates[%d]", i)
		originate(place, a.Prefix, a.Attributes)
		if a.Prefix.IsValid() && (a.Prefix.Bits() == 0 || a.Prefix.IsSingleIP()) {
			f.add(place+" prefix", "%s cannot be an aggregate", a.Prefix)
		}
	}
}

func (p *Peer) check(f *faults, place string, own uint32) {
	if p.Name == "" || len(p.Name) > 63 {
		f.add(place+" name", "must have 1 to 63 characters")
	}
	for _, r := range p.Name {
		if r != '-' && r != '_' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			f.add(place+" name", "%q has a character other than letters, digits, '.', '-' and '_'", p.Name)
			break
		}
	}
	checkASN(f, place+" asn", p.ASN)
	switch {
	case p.Address.IsValid() == p.Prefix.IsValid():
		f.add(place+" address", "one of address and prefix must be set")
		return
	case p.Address.IsValid() && (!usable(p.Address) || p.Address.Is4In6()):
		f.add(place+" address", "%s is not an address of a host", p.Address)
	case p.Prefix.IsValid():
		p.checkDynamic(f, place)
	}
	over := p.Transport()
	if p.Local.IsValid() && (!usable(p.Local) || FamilyOf(p.Local) != over) {
		f.add(place+" local", "%s is not an address of the peer's family", p.Local)
	}
	for i, fam := range p.Families {
		switch {
		case fam != IPv4 && fam != IPv6:
			f.add(place+" families", "%q is not %s or %s", fam, IPv4, IPv6)
		case slices.Contains(p.Families[:i], fam):
			f.add(place+" families", "%s is there twice", fam)
		case fam == IPv6 && over == IPv4:
			f.add(place+" families", "ipv6 needs a session over IPv6: one over IPv4 has no next hop for it")
		}
	}
	for fam, n := range p.MaxPrefixes {
		if !slices.Contains(p.Exchanged(), fam) {
			f.add(place+" maxPrefixes", "%q is not exchanged", fam)
		}
		if n == 0 {
			f.add(place+" maxPrefixes", "%s is 0: leave it out for the default of %d, or disable the peer", fam, DefaultMaxPrefixes)
		}
	}
	p.checkSession(f, place, own == p.ASN)
	p.Import.check(f, place+" import", false)
	p.Export.check(f, place+" export", true)
}

func (p *Peer) checkDynamic(f *faults, place string) {
	if p.Prefix != p.Prefix.Masked() {
		f.add(place+" prefix", "%s has host bits", p.Prefix)
	}
	if p.Prefix.Bits() == 0 {
		f.add(place+" prefix", "%s is everybody", p.Prefix)
	}
	if p.Limit < 0 || p.Limit > maxPeers {
		f.add(place+" limit", "%d is not 0 to %d", p.Limit, maxPeers)
	}
	if p.BFD != nil {
		f.add(place+" bfd", "is for peers with an address")
	}
	if p.Local.IsValid() {
		f.add(place+" local", "is for peers with an address: others connect to any")
	}
}

// checkSession looks at what the two ends of a session agree on.
func (p *Peer) checkSession(f *faults, place string, internal bool) {
	if len(p.Password) > 80 {
		f.add(place+" password", "has more than 80 octets")
	}
	if p.TTLSecurity > 0 && p.MultihopTTL > 0 {
		f.add(place+" ttlSecurity", "excludes multihopTTL: say there how many hops")
	}
	if internal {
		for _, c := range []struct {
			set   bool
			field string
		}{{p.MultihopTTL > 0, "multihopTTL"}, {p.ASOverride, "asOverride"}, {p.RemovePrivateAS != KeepPrivateAS, "removePrivateAS"}} {
			if c.set {
				f.add(place+" "+c.field, "is for eBGP: the peer's AS is the speaker's")
			}
		}
	}
	if !slices.Contains([]RemovePrivateAS{KeepPrivateAS, RemovePrivate, ReplacePrivateAS}, p.RemovePrivateAS) {
		f.add(place+" removePrivateAS", "%q is not %q or %q", p.RemovePrivateAS, RemovePrivate, ReplacePrivateAS)
	}
	if p.AllowOwnAS > 10 {
		f.add(place+" allowOwnAS", "%d is more than 10", p.AllowOwnAS)
	}
	seconds(f, place+" hold", p.Hold, 3*time.Second, 65535*time.Second)
	seconds(f, place+" keepalive", p.Keepalive, time.Second, 21845*time.Second)
	seconds(f, place+" connectRetry", p.ConnectRetry, time.Second, time.Hour)
	seconds(f, place+" reEnable", p.ReEnable, time.Second, 24*time.Hour)
	hold := p.Hold
	if hold == 0 {
		hold = DefaultHold
	}
	if p.Keepalive >= hold {
		f.add(place+" keepalive", "%s is not below the hold time of %s", p.Keepalive, hold)
	}
	if g := p.GracefulRestart; g != nil {
		seconds(f, place+" gracefulRestart time", g.Time, time.Second, 4095*time.Second)
		seconds(f, place+" gracefulRestart longLived", g.LongLived, time.Second, (1<<24-1)*time.Second)
	}
	if b := p.BFD; b != nil {
		if b.Interval != 0 && (b.Interval < 10*time.Millisecond || b.Interval > time.Minute || b.Interval%time.Microsecond != 0) {
			f.add(place+" bfd interval", "%s is not 10ms to 1m0s in whole microseconds", b.Interval)
		}
		if p.MultihopTTL > 0 || p.TTLSecurity > 1 {
			f.add(place+" bfd", "is for neighbours one hop away (RFC 5881)")
		}
	}
}

// Transport is the family that the session runs over.
func (p *Peer) Transport() Family {
	if p.Address.IsValid() {
		return FamilyOf(p.Address)
	}
	return FamilyOf(p.Prefix.Addr())
}

// Exchanged are the families whose routes are exchanged.
func (p *Peer) Exchanged() []Family {
	if len(p.Families) == 0 {
		return []Family{p.Transport()}
	}
	return p.Families
}

// seconds checks a time that 0 leaves to the default.
func seconds(f *faults, place string, d, least, most time.Duration) {
	if d != 0 && (d < least || d > most || d%time.Second != 0) {
		f.add(place, "%s is not %s to %s in whole seconds", d, least, most)
	}
}

// checkASN refuses the numbers that no speaker may have: RFC 7607, RFC 6793 (9),
// RFC 7300.
func checkASN(f *faults, place string, asn uint32) {
	switch asn {
	case 0:
		f.add(place, "0 is no AS number (RFC 7607)")
	case maxASTrans:
		f.add(place, "23456 stands for numbers of four octets (RFC 6793) and is nobody's")
	case 65535, 4294967295:
		f.add(place, "%d is reserved (RFC 7300)", asn)
	}
}

func usable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && (!a.IsLinkLocalUnicast() || a.Is4() || a.Zone() != "")
}

// text shows an address or prefix, and nothing where there is none.
func text[T interface {
	IsValid() bool
	String() string
}](v T) string {
	if !v.IsValid() {
		return ""
	}
	return v.String()
}
