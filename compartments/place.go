package compartments

import (
	"net/netip"
)

// A holding is an address that this machine has on the fabric.
type holding struct {
	prefix  netip.Prefix
	home    string // the link that it belongs on; "" if there is none for it
	rewrite bool   // it stands for one CA
}

// held gives all of them. An address that stands for a CA has no interface of
// its own: it is on one from which its prefix is reached, or if there is none,
// and routers lead to it, on any of its family.
func held(s ProviderSpec) []holding {
	var out []holding
	for _, a := range s.Addresses {
		out = append(out, holding{prefix: a.Addr, home: ProviderLink(a)})
	}
	for _, r := range s.Rewrite {
		a := r.Addr
		h := holding{prefix: netip.PrefixFrom(a, a.BitLen()), rewrite: true}
		if l, ok := linkTo(s, a); ok {
			h.home = l
		} else {
			for _, p := range s.Addresses {
				if p.Addr.Addr().Is4() == a.Is4() {
					h.home = ProviderLink(p)
					break
				}
			}
		}
		out = append(out, h)
	}
	return out
}

// PAState tells where an address on the fabric is, and whether it works.
type PAState struct {
	Addr netip.Addr
	Home string // the link that it belongs on
	Link string // the one that it is on
}

// ProviderState tells of all addresses on the fabric, as they were after the last
// change.
type ProviderState struct {
	Addresses []PAState
	Rewrite   []PAState // those that are on this machine now
}

// ProviderState tells how the provider side is.
func (e *Engine) ProviderState() ProviderState {
	e.gw.mu.Lock()
	defer e.gw.mu.Unlock()
	return e.gw.provider
}

func stateOf(s ProviderSpec) ProviderState {
	var out ProviderState
	for _, h := range held(s) {
		p := PAState{Addr: h.prefix.Addr(), Home: h.home, Link: h.home}
		if h.rewrite {
			out.Rewrite = append(out.Rewrite, p)
		} else {
			out.Addresses = append(out.Addresses, p)
		}
	}
	return out
}
