package hnv

// ListenAt is the external address that a connection listens at: its own, or the
// first of its tenant; of an address that the tenant has several ranges of, the range
// that has the port, or the first.
func (f *Fabric) ListenAt(c S2SConnection) (r ExternalRange, ok bool) {
	look := func(e ExternalRange) (done bool) {
		switch {
		case c.LocalAddress.IsValid() && e.Addr != c.LocalAddress, ok && e.Addr != r.Addr:
			return false
		case c.ListenPort == 0 || e.holds(c.ListenPort):
			r, ok = e, true
			return true
		case !ok && !c.LocalAddress.IsValid():
			r, ok = e, true // unless another range of the address has it
		}
		return false
	}
	// Not all of Externals: for each change, all connections' are looked for.
	if g := f.tenants[c.Tenant].Gateway; g != nil && g.NAT != nil {
		for _, e := range g.NAT.Pool {
			if look(e) {
				return r, true
			}
		}
	}
	if ok || len(f.attachments[c.Tenant]) == 0 {
		return r, ok
	}
	for _, e := range f.Externals(c.Tenant) {
		if look(e) {
			return r, true
		}
	}
	return r, ok
}

// Complete gives the connection with what a replacement keeps, and a listen port.
func (f *Fabric) Complete(c S2SConnection) S2SConnection {
	c = c.Defaulted()
	if old, ok := f.connections[c.Tenant][c.Name]; ok {
		c = c.Kept(old)
	}
	if c.ListenPort == 0 {
		if at, ok := f.ListenAt(c); ok {
			for _, e := range f.Externals(c.Tenant) {
				if e.Addr == at.Addr && c.ListenPort == 0 {
					c.ListenPort = f.freePort(c, e)
				}
			}
		}
	}
	return c
}

// freePort finds a UDP port that nobody has at the address; 0 if there is none. On
// an address shared by ranges it looks from the end, as far as can be from where
// static mappings are usually made.
func (f *Fabric) freePort(c S2SConnection, at ExternalRange) uint16 {
	taken := map[uint16]bool{}
	for _, of := range f.connections {
		for _, o := range of {
			if o.Key() == c.Key() {
				continue
			}
			if r, ok := f.ListenAt(o); ok && r.Addr == at.Addr {
				taken[o.ListenPort] = true
			}
		}
	}
	for _, m := range f.mappings {
		if m.Proto == UDP && m.External.Addr() == at.Addr {
			taken[m.External.Port()] = true
		}
	}
	if at.Whole() {
		for p := FirstListenPort; p <= 65535; p++ {
			if !taken[uint16(p)] {
				return uint16(p)
			}
		}
		return 0
	}
	for p := int(at.Hi); p >= int(at.Lo); p-- {
		if !taken[uint16(p)] {
			return uint16(p)
		}
	}
	return 0
}

func (r ExternalRange) holds(port uint16) bool { return r.Whole() || r.Lo <= port && port <= r.Hi }
