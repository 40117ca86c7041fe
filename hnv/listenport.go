package hnv

// ListenAt is the external address that a connection listens at: its own, or the
// first of its tenant.
func (f *Fabric) ListenAt(c S2SConnection) (r ExternalRange, ok bool) {
	fits := func(e ExternalRange) bool {
		return !c.LocalAddress.IsValid() || e.Addr == c.LocalAddress && (c.ListenPort == 0 || e.holds(c.ListenPort))
	}
	// Not all of Externals: for each change, all connections' are looked for.
	if g := f.tenants[c.Tenant].Gateway; g != nil && g.NAT != nil {
		for _, e := range g.NAT.Pool {
			if fits(e) {
				return e, true
			}
		}
	}
	if len(f.attachments[c.Tenant]) == 0 {
		return ExternalRange{}, false
	}
	for _, e := range f.Externals(c.Tenant) {
		if fits(e) {
			return e, true
		}
	}
	return ExternalRange{}, false
}

// Complete gives the connection with what a replacement keeps, and a listen port.
func (f *Fabric) Complete(c S2SConnection) S2SConnection {
	c = c.Defaulted()
	if old, ok := f.connections[c.Tenant][c.Name]; ok {
		c = c.Kept(old)
	}
	if c.ListenPort == 0 {
		if at, ok := f.ListenAt(c); ok {
			c.ListenPort = f.freePort(c, at)
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
