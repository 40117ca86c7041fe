package compartments

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// want is a compartment as it should be.
type want struct {
	tenant    hnv.Name
	namespace string
	marker    string
	sysctls   []setting // of the compartment, set before it has links
	pairs     []pair
	addrs     map[string][]netip.Prefix // by link inside
	routes    []route                   // inside
	hops      []hop                     // permanent neighbours inside
	outside   outside
}

// uplinkState is what matters of an uplink's interface.
type uplinkState struct {
	name   string
	mtu    int
	source sources
}

// sources are the addresses by which the gateway speaks for itself on a link, as
// in ICMP errors; unset where it has none there.
type sources struct{ v4, v6 netip.Addr }

// to gives the one for a packet to the address.
func (s sources) to(a netip.Addr) netip.Addr {
	if a.Is6() {
		return s.v6
	}
	return s.v4
}

// sourcesOn picks of the gateway's addresses those by which it speaks on a link:
// of each family the oldest, which the kernel lists first for IPv4 and last for
// IPv6, so that another one changes nothing.
func sourcesOn(link int, own []nl.Addr) sources {
	var s sources
	for _, o := range own {
		a := o.Prefix.Addr()
		switch {
		case o.Link != link || o.Tentative || a.IsLinkLocalUnicast():
		case a.Is6():
			s.v6 = a
		case !s.v4.IsValid():
			s.v4 = a
		}
	}
	return s
}

type setting struct{ key, value string }

// pair is a veth: one end inside the compartment, the other in the gateway's
// namespace.
type pair struct{ inner, outer link }

type link struct {
	name  string
	mac   [6]byte
	mtu   int
	alias string
	noARP bool
	// offloads are what it leaves undone of what it sends; nil: as it happens to be.
	offloads *nl.Offloads
	conf4    map[nl.Conf4]int
	ipv6     bool
}

// route is a route without what only the kernel knows.
type route struct {
	table  uint32 // 0 is the main one
	link   string
	dst    netip.Prefix
	via    netip.Addr
	onLink bool
	metric uint32
	src    netip.Addr // preferred source; unset: the kernel's choice
}

type hop struct {
	link string
	addr netip.Addr
	mac  [6]byte
}

// outside is what the gateway's namespace should hold for one compartment.
type outside struct {
	peer    string // the gateway-side end of ext
	uplink  string // interface
	routes  []route
	hops    []hop
	source  sources
	proxied []netip.Addr // on the uplink
	shared  []netip.Addr // those of which other compartments may have a part
	entries []entry      // without the index that steering needs
}

// sysctlBase holds in every compartment. IPv6 settings are made the default
// before there are links, so that each link starts with them.
var sysctlBase = []setting{
	{"ipv4/ip_forward", "1"}, // first: it resets others
	{"ipv4/conf/all/send_redirects", "0"},
	// The greater of this and the link's own holds: with 2, which a new namespace may
	// have from the machine, strict links would be loose.
	{"ipv4/conf/all/rp_filter", "0"},
	{"ipv6/conf/all/forwarding", "1"},
	{"ipv6/conf/default/accept_ra", "0"},
	{"ipv6/conf/default/accept_redirects", "0"},
	{"ipv6/conf/default/autoconf", "0"},
	// Without these, segments outside the window would leave untranslated and
	// stray resets would end other people's connections.
	{"netfilter/nf_conntrack_tcp_be_liberal", "1"},
	{"netfilter/nf_conntrack_tcp_ignore_invalid_rst", "1"},
	newLinks6,
}

// newLinks6: links that others make in the compartment begin with IPv6. Ours begin
// without, and are made before this is set.
var newLinks6 = setting{"ipv6/conf/default/disable_ipv6", "0"}

// insideConf holds for the links inside: they forward, take only sources that
// are routed back the same way, and learn nothing.
var insideConf = map[nl.Conf4]int{
	nl.Forwarding4: 1, nl.RPFilter: 1, nl.SendRedirects: 0, nl.AcceptRedirects4: 0,
	nl.AcceptSourceRoute: 0, nl.ARPIgnore: 1, nl.ARPAnnounce: 2,
}

// overlayPeerConf: the kernel has no business with the dataplane's frames.
var overlayPeerConf = map[nl.Conf4]int{nl.Forwarding4: 0, nl.AcceptRedirects4: 0, nl.SendRedirects: 0}

// uplinkPeerConf: no reverse path filtering, because the route back to a shared
// address is not this link; the egress check is exact instead.
var uplinkPeerConf = map[nl.Conf4]int{
	nl.Forwarding4: 1, nl.RPFilter: 0, nl.SendRedirects: 0, nl.AcceptRedirects4: 0, nl.AcceptSourceRoute: 0,
}

func is4(a netip.Addr) bool { return a.Is4() }

func is6(a netip.Addr) bool { return a.Is6() }

// wanted derives it all from the spec.
func wanted(n names, s Spec, uplink uplinkState) want {
	var cas, ext []netip.Addr
	for _, p := range s.CAs {
		cas = append(cas, p.Addr())
	}
	for _, e := range s.External {
		if !slices.Contains(ext, e.Addr) {
			ext = append(ext, e.Addr)
		}
	}
	slices.SortFunc(ext, netip.Addr.Compare)
	ca6, ext6 := slices.ContainsFunc(cas, is6), slices.ContainsFunc(ext, is6)
	wnv, peer := OverlayLink(s.VSID), n.uplinkPeer(s.VSID)
	mac := s.MAC.Bytes()
	macX, macE := linkMAC(macUplinkPeer, s.VSID), linkMAC(macExternal, s.VSID)
	role := func(r string) string { return n.alias(s.Name.String(), r) }

	w := want{
		tenant:    s.Name,
		namespace: n.namespace(s.Name),
		marker:    n.marker(s.Name),
		sysctls:   slices.Clone(sysctlBase),
		pairs: []pair{{
			inner: link{name: wnv, mac: mac, mtu: s.MTU, alias: role("wnv"), offloads: s.offloads(), conf4: insideConf, ipv6: ca6},
			outer: link{name: n.overlayPeer(s.VSID), mac: linkMAC(macOverlayPeer, s.VSID), mtu: s.MTU, alias: role("wnv"), noARP: true, conf4: overlayPeerConf},
		}, {
			inner: link{name: ExternalLink, mac: macE, mtu: uplink.mtu, alias: role("ext"), noARP: true, conf4: insideConf, ipv6: ext6},
			outer: link{name: peer, mac: macX, mtu: uplink.mtu, alias: role("ext"), noARP: true, conf4: uplinkPeerConf, ipv6: ext6},
		}},
		addrs: map[string][]netip.Prefix{wnv: slices.Clone(s.CAs), ExternalLink: nil},
	}
	if ca6 { // neighbour discovery for others needs a link-local source
		w.addrs[wnv] = append(w.addrs[wnv], netip.PrefixFrom(linkLocal(mac), 64))
	}
	for _, a := range ext {
		w.addrs[ExternalLink] = append(w.addrs[ExternalLink], netip.PrefixFrom(a, a.BitLen()))
	}
	w.insideRoutes(s, wnv, ext, macX)
	w.outside = wantedOutside(s, ext, peer, uplink, macE)
	return w
}

// allOffloads are those that a veth has from the start.
var allOffloads = nl.Offloads{TxChecksum: true, TSO: true, GSO: true}

// offloads are those of wnv.
func (s *Spec) offloads() *nl.Offloads {
	if s.Whole {
		return &nl.Offloads{}
	}
	all := allOffloads
	return &all
}

func (w *want) insideRoutes(s Spec, wnv string, ext []netip.Addr, macX [6]byte) {
	for _, r := range s.Routes {
		connected := slices.ContainsFunc(s.CAs, func(ca netip.Prefix) bool { return ca.Masked() == r.Prefix })
		want := route{link: wnv, dst: r.Prefix, via: r.Via, metric: metric(r.Via)}
		if connected || slices.Contains(w.routes, want) {
			continue
		}
		w.routes = append(w.routes, want)
		// The distributed router has one address everywhere: known for good, it
		// need not be asked for while the dataplane restarts.
		h := hop{wnv, r.Via, hnv.RouterMAC.Bytes()}
		if !slices.Contains(w.hops, h) {
			w.hops = append(w.hops, h)
		}
	}
	for _, f := range []struct {
		has func(netip.Addr) bool
		all netip.Prefix
		via netip.Addr
	}{{is4, all4, gatewayHop4}, {is6, all6, gatewayHop6}} {
		if slices.ContainsFunc(ext, f.has) {
			w.routes = append(w.routes, route{link: ExternalLink, dst: f.all, via: f.via, onLink: true, metric: metric(f.via)})
			w.hops = append(w.hops, hop{ExternalLink, f.via, macX})
		}
	}
}

var (
	all4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	all6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// metric is what the kernel makes of a metric that is not given.
func metric(a netip.Addr) uint32 {
	if a.Is6() {
		return 1024
	}
	return 0
}

func wantedOutside(s Spec, ext []netip.Addr, peer string, uplink uplinkState, macE [6]byte) outside {
	o := outside{peer: peer, uplink: uplink.name, source: uplink.source, proxied: ext}
	o.entries = append(o.entries, entry{set: setExits, link: peer, other: uplink.name})
	for _, a := range ext {
		via := compartmentHop4
		if a.Is6() {
			via = compartmentHop6
		}
		if whole(s.External, a) {
			o.routes = append(o.routes, route{link: peer, dst: netip.PrefixFrom(a, a.BitLen()), via: via, onLink: true, metric: metric(a), src: o.source.to(a)})
		} else {
			o.shared = append(o.shared, a)
		}
		h := hop{peer, via, macE}
		if !slices.Contains(o.hops, h) {
			o.hops = append(o.hops, h)
		}
	}
	for _, e := range s.External {
		o.entries = append(o.entries, externalEntries(peer, e)...)
	}
	for _, p := range disjoint(s.Forwarded) {
		via := compartmentHop4
		if p.Addr().Is6() {
			via = compartmentHop6
		}
		o.routes = append(o.routes, route{link: peer, dst: p, via: via, onLink: true, metric: metric(p.Addr()), src: o.source.to(p.Addr())})
		o.entries = append(o.entries, forwardEntry(peer, p))
	}
	slices.SortFunc(o.entries, entry.compare)
	o.entries = slices.Compact(o.entries)
	return o
}

// disjoint leaves out the prefixes that others hold: a set of intervals has no
// address twice.
func disjoint(prefixes []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range prefixes {
		if !slices.ContainsFunc(prefixes, func(o netip.Prefix) bool { return o.Bits() < p.Bits() && o.Contains(p.Addr()) }) && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

func whole(rs []hnv.ExternalRange, a netip.Addr) bool {
	return slices.ContainsFunc(rs, func(r hnv.ExternalRange) bool { return r.Addr == a && r.Whole() })
}

func onOff(b bool) string { return strconv.Itoa(btoi(b)) }

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
