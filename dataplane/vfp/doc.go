// Package vfp is the filtering platform of a port: what happens to its packets,
// as layers of rules (after Firestone, "VFP: A Virtual Switch Platform for Host
// SDN in the Public Cloud", NSDI 2017), compiled into a Program that decides
// about the first packet of a flow.
//
//	switch
//	 `- port                                one Program
//	     `- layer   acl      priority 100   every packet goes through every layer
//	     |   `- group   outbound, IPv4      at most one rule of a group matches
//	     |   |   `- rule    N-tuple -> action
//	     |   |   `- rule
//	     |   `- group   inbound, IPv4
//	     `- layer   meter    priority 200
//	     `- layer   nat      priority 250   -> NATPool
//	     `- layer   vnet     priority 300   -> space of CA-PA mappings, by name
//	     `- layer   forward  priority 400
//
// A packet goes through the layers in ascending order of their priorities when
// the port sends it, and in descending order when the port gets it; through the
// groups of its direction and family in ascending order both ways. Each layer
// sees the headers as the layers before it left them.
//
//	            acl       meter      nat       vnet      forward
//	outbound    -----1------2---------3---------4----------5---->   switch
//	inbound     <----5------4---------3---------2----------1-----   switch
//
//	group:      the first rule that matches, by priority        none: no say
//	action:     Allow      nothing more from this group
//	            Block      the end: dropped, for a reason
//	            Meter      a Bucket must have room
//	            Rewrite    a Transposition of headers, maybe with a lease of a NATPool
//	            Route, Encap, Decap, Punt   told to the caller
//
// Evaluate composes what all layers do into one Composed: the actions in their
// order, one Transposition, the buckets. The caller keeps it with the flow
// (package flow), so that no later packet of the flow is evaluated again:
//
//	p, err := vfp.Compile(layers)  // or Cache.Compile, where ports have lists in common
//	p.Inherit(old)                 // its rules go on counting
//
//	var c vfp.Composed
//	p.Evaluate(vfp.Outbound, &h, &c)
//	switch {
//	case c.NeedsL4: // a later fragment: what becomes of the first one is for it too
//	case c.Blocked: // drop it for c.Reason
//	case !vfp.TakeAll(c.Meters(), now, f.Len()): // drop it; c.Lease.Release()
//	default:
//		r := c.Transposition.Apply(f, &h)          // and keep c with the flow
//		back := c.Transposition.Reply(&h)          // for the flow's other half
//	}
//	p.Count(c.Steps(), 1, uint64(f.Len()))
//	...
//	c.Lease.Release()              // when the flow is gone
//
// EvaluateLayer asks one layer again, as after a change of policy; Explain tells
// people what every group had to say.
//
// A match on ports, ICMP types or TCP flags cannot be decided for a later
// fragment, which has none; NeedsL4 says so wherever it would make a difference.
//
// # Speed
//
// A group finds its rule by bit vectors (matrix.go), so that a list of a thousand
// rules costs a few times what one of ten does. What that takes in memory grows
// with the values that rules name; Cache keeps it once for all ports.
//
// # Concurrency
//
// A Program is immutable, Buckets are lock-free; both serve any number of
// workers. A NATPool has a mutex, which is taken when a flow begins or ends.
// Evaluate, Apply and Take do not allocate.
//
// dataplane and its children may import this package; it imports packet and drop
// only.
package vfp
