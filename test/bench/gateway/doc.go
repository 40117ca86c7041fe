// Package gateway measures gateways side by side: the product, what an operator
// would pick instead, and the limit of the machine.
//
//	 vm            host             gw                      inet
//	+----+        +------+ fabric  +-----------+ outside   +------------+
//	|eth0|==veth==|v0 pa0|==veth===|pa0    ext0|==veth=====|gw0         |
//	+----+        +------+         +-----------+           +------------+
//	 iperf3,       encapsulates     what is                 iperf3, echo,
//	 connections,  (host.c) or      measured                counts and takes
//	 pings         not; the                                 away small
//	               generator                                packets (sink.c)
//
// A Case is one kind of gateway. Its rig is a handful of network namespaces; the
// rigs of all cases are up at once, and differ in nothing but the gateway: also
// where there is no overlay there is a host, which only addresses frames. What
// arrives at the gateway from either side has the size of frames on a wire; what it
// sends may be larger, as with a NIC that segments.
//
// A measure runs on one rig at a time, on all rigs one after the other, in an order
// that moves on with each round. So what is compared was measured close together,
// and what else the machine was doing hits all alike.
//
// All of it lives in namespaces of its own under names that hold the pid, so that
// the next run finds and removes what a killed one left. Only commands below
// test/bench import this package.
package gateway
