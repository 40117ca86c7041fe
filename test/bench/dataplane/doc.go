// Package dataplane measures what a packet costs in the dataplane as a whole, in
// memory and without root: one Switch, one Worker, Writers that take everything.
// What the tables and codecs cost by themselves is measured next to them.
//
// A packet is timed from the Worker taking it to the Writer getting it. Making
// the packets and filling the frames is not. Packets come in batches of 64, as
// they do from the kernel; flows in random order, so that where there are many,
// no cache holds them.
//
// The benchmarks report, for each packet:
//
//	ns/packet       time on the clock
//	cpu-ns/packet   processor time of the whole process, collecting garbage
//	                included: what a machine that others use too tells best
//	allocs/packet   allocations
//
// Names follow benchstat's: key=value parts that it can compare by. path=hit is
// the packet of a flow that the port's flow table knows, path=first the first
// packet of a flow, path=each a packet of no flow (a first fragment), which is
// decided by itself and not remembered.
//
// Nothing imports this package.
package dataplane
