package compartments

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
)

// An address whose link cannot carry it any more moves to another one of the same
// network, where there is one, and back:
//
//	            home fails, another works: at once
//	at home  -------------------------------------->  on another
//	         <--------------------------------------
//	   home has worked for a while, or the other fails
//
// A link that has never worked yet is given patience before its addresses leave,
// as at a machine's start. One that somebody set down stays so while another has
// its addresses; where none can, it is set up after a respite, in which whoever
// changes the link, and has to set it down for that, can set it up again.
const (
	probation = 3 * time.Second
	patience  = 2 * time.Second
	respite   = 300 * time.Millisecond
)

// Fault says why a link does not carry the fabric.
type Fault string

// The faults. FaultNone is none.
const (
	FaultNone      Fault = ""
	FaultMissing   Fault = "is not there: is it plugged in?"
	FaultDown      Fault = "is down: set it up"
	FaultNoCarrier Fault = "has no carrier: check the cable, and the switch's port"
)

// PAState tells where an address on the fabric is, and whether it works.
type PAState struct {
	Addr  netip.Addr
	Home  string // the link that it belongs on
	Link  string // the one that it is on
	Fault Fault  // of the first
	Why   string // the first is not there, if that is known
	// Refused is why the kernel does not have the address on the other; "" if it does.
	Refused string
	Down    bool // the other does not work either: the address cannot be used
}

// Trouble says in words what is wrong; "" if nothing is.
func (s PAState) Trouble() string {
	fault := string(s.Fault)
	if s.Why != "" {
		fault = s.Why
	}
	switch {
	case s.Home == "":
		return "this machine has no provider address of the family, on whose interface it could be"
	case s.Refused != "":
		return s.Refused
	case s.Link == s.Home && s.Fault != FaultNone:
		return fmt.Sprintf("interface %s %s", s.Home, fault)
	case s.Link == s.Home:
		return ""
	case s.Down:
		return fmt.Sprintf("interface %s %s, and %s, which took the address over, does not work either", s.Home, fault, s.Link)
	case s.Fault == FaultNone:
		return fmt.Sprintf("on %s, soon to go back to %s, which works again", s.Link, s.Home)
	}
	return fmt.Sprintf("on %s, as interface %s %s", s.Link, s.Home, fault)
}

// A holding is an address that this machine has on the fabric.
type holding struct {
	prefix  netip.Prefix
	home    string   // the link that it belongs on; "" if there is none for it
	refuges []string // others of the same network
	rewrite bool     // it stands for one CA
}

// held gives all of them. An address that stands for a CA has no interface of
// its own: it is on one from which its prefix is reached, or if there is none,
// and routers lead to it, on any of its family.
func held(s ProviderSpec) []holding {
	var out []holding
	for _, a := range s.Addresses {
		links := network(s, a)
		home := ProviderLink(a)
		out = append(out, holding{prefix: a.Addr, home: home, refuges: slices.DeleteFunc(links, func(l string) bool { return l == home })})
	}
	for _, r := range s.Rewrite {
		h := holding{prefix: netip.PrefixFrom(r.Addr, r.Addr.BitLen()), rewrite: true}
		if a, ok := onLink(s, r.Addr); ok {
			links := network(s, a)
			h.home, h.refuges = links[0], links[1:]
		} else if i := slices.IndexFunc(s.Addresses, func(a hnv.ProviderAddress) bool { return a.Addr.Addr().Is4() == r.Addr.Is4() }); i >= 0 {
			h.home = ProviderLink(s.Addresses[i])
		}
		out = append(out, h)
	}
	return out
}

// network gives the links on the network of the address: they have an address of
// the same prefix, in the same VLAN.
func network(s ProviderSpec, of hnv.ProviderAddress) []string {
	var out []string
	for _, a := range s.Addresses {
		if l := ProviderLink(a); a.Addr.Masked() == of.Addr.Masked() && a.VLAN == of.VLAN && !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}

// onLink finds the provider address from which another is reached without a
// router.
func onLink(s ProviderSpec, to netip.Addr) (best hnv.ProviderAddress, ok bool) {
	for _, a := range s.Addresses {
		if a.Addr.Masked().Contains(to) && (!ok || a.Addr.Bits() > best.Addr.Bits()) {
			best, ok = a, true
		}
	}
	return best, ok
}

// linkHealth is what is remembered of a link between two looks at it.
type linkHealth struct {
	index  int // 0 while it is missing
	fault  Fault
	since  time.Time // of the fault, or of none
	first  time.Time // when it was first looked at
	worked bool      // ever
}

// look takes in how the link is now.
func (h linkHealth) look(index int, f Fault, now time.Time) linkHealth {
	if h.first.IsZero() {
		h.first = now
	}
	if h.since.IsZero() || h.index != index || h.fault != f {
		h.since = now
	}
	h.index, h.fault = index, f
	h.worked = h.worked || f == FaultNone
	return h
}

// place decides on which link an address is to be, where at is where it is now,
// "" if nowhere; and how long that is certain, 0 if until a link changes.
func (h holding) place(at string, links map[string]linkHealth, now time.Time) (link string, valid time.Duration) {
	works := func(l string) bool { return l != "" && links[l].index != 0 && links[l].fault == FaultNone }
	away := slices.Contains(h.refuges, at)
	home := links[h.home]
	if works(h.home) {
		if left := probation - now.Sub(home.since); away && works(at) && left > 0 {
			return at, left
		}
		return h.home, 0
	}
	if away && works(at) {
		return at, 0
	}
	if left := patience - now.Sub(home.first); !home.worked && left > 0 && !away {
		return h.home, left
	}
	if i := slices.IndexFunc(h.refuges, works); i >= 0 {
		return h.refuges[i], 0
	}
	if away && links[at].index != 0 {
		return at, 0
	}
	return h.home, 0
}

// missed gives the links that are to be set up again, as they are down and an
// address has no other that works; and after how long the next is, 0 if none is.
func missed(all []holding, p placement, left map[string]bool, links map[string]linkHealth, now time.Time) (up []string, next time.Duration) {
	for _, h := range all {
		if l := p.of(h); l == "" || links[l].index != 0 && links[l].fault == FaultNone {
			continue
		}
		for _, l := range append([]string{h.home}, h.refuges...) {
			if !left[l] || slices.Contains(up, l) {
				continue
			}
			if wait := respite - now.Sub(links[l].since); wait <= 0 {
				up = append(up, l)
			} else if next == 0 || wait < next {
				next = wait
			}
		}
	}
	return up, next
}

// placement is where all addresses are to be.
type placement map[netip.Addr]string

// on gives the holdings that are to be on a link.
func (p placement) on(link string, all []holding) []holding {
	var out []holding
	for _, h := range all {
		if p.of(h) == link {
			out = append(out, h)
		}
	}
	return out
}

// of gives the link of a holding; one that was not decided on is at home.
func (p placement) of(h holding) string {
	if l, ok := p[h.prefix.Addr()]; ok {
		return l
	}
	return h.home
}

// way finds the link over which an address is reached without a router: of
// several in one network one that works.
func (p placement) way(all []holding, links map[string]linkHealth, to netip.Addr) (string, bool) {
	best, bits, works := "", -1, false
	for _, h := range all {
		if h.rewrite || !h.prefix.Masked().Contains(to) {
			continue
		}
		l := p.of(h)
		ok := links[l].fault == FaultNone
		if h.prefix.Bits() > bits || h.prefix.Bits() == bits && ok && !works {
			best, bits, works = l, h.prefix.Bits(), ok
		}
	}
	return best, bits >= 0
}

// IsDown tells whether the address of this machine cannot be used.
func (s ProviderState) IsDown(a netip.Addr) bool {
	for _, p := range s.Addresses {
		if p.Addr == a {
			return p.Down
		}
	}
	return false
}
