// Package lookup holds the tables by which the dataplane finds its way inside
// one routing domain: lookup records (VSID, CA) -> (MAC, PA, rule), the subnets
// and customer routes of the domain by longest prefix, and what follows from the
// records: stations by MAC, the hosts of each virtual subnet, the PAs of hosts
// and of rewrite records.
//
// A Domain is the whole knowledge about one RDID at one moment. It never
// changes once it is built, so readers need no lock; whoever changes it builds
// a successor (Domain.Update shares all that stays the same) and publishes it
// behind an atomic.Pointer. Nothing in a Domain refers to another one: code
// that holds a single Domain cannot find a way into another tenant.
//
// Two things tell a flow, which remembers what was decided for its first packet,
// that the world has changed. Domain.Gen is another number once records come or
// go: decide anew. A Mapping leads to what one record says now, so that a live
// migration takes one store for all flows of the VM, and no decision.
//
// Records hold no pointers and lie in small shards, so that a million of them
// cost the garbage collector nothing and one write copies a few kilobytes. A
// record of a VM costs about 106 bytes: 52 to be found by its CA, and as many for
// its MAC, which VMs with several CAs pay once. A customer route costs about 170
// bytes, and a Mapping in use, which all flows to a CA share, about 180.
//
// Locks: each shard of a family's Mappings has one, held by whoever makes,
// re-aims or drops one; nothing else is locked under it. No lock is taken to look
// anything up.
//
// Only the dataplane imports this package.
package lookup
