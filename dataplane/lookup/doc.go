// Package lookup holds the tables by which the dataplane finds its way inside
// one routing domain: lookup records (VSID, CA) -> (MAC, PA, rule), the subnets
// and customer routes of the domain by longest prefix, and the set of PAs that
// host any of its records.
//
// A Domain is the whole knowledge about one RDID at one moment. It never
// changes once it is built, so readers need no lock; whoever changes it builds
// a successor (Domain.Update shares all that stays the same) and publishes it
// behind an atomic.Pointer. Nothing in a Domain refers to another one: code
// that holds a single Domain cannot find a way into another tenant.
//
// Records hold no pointers and lie in small shards, so that a million of them
// cost the garbage collector nothing and one write copies a few kilobytes.
//
// Only the dataplane imports this package.
package lookup
