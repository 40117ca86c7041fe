package flow

import (
	"time"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// DefaultMax is how many flows a table holds where Options.Max says nothing.
const DefaultMax = 1 << 16

// Options say how large a table may grow and how long its flows last.
type Options[A any] struct {
	Max      int // flows, a pair counting as one; 0 means DefaultMax
	Timeouts Timeouts

	// OnEvict is called once for every flow that has left the table, with its
	// opener, by the goroutine that removed it, with no lock held: to add the
	// counters up, and to release what the actions hold. A packet that is on its
	// way with the entry may still count on it.
	OnEvict func(opener *Entry[A], why Reason)
}

// Timeouts are for how long a flow may be idle. Zero means the default.
type Timeouts struct {
	TCPSetup       time.Duration // 30 s: until the handshake is done
	TCPEstablished time.Duration // 30 min
	TCPHalfClosed  time.Duration // 4 min: one end has sent FIN
	TCPClosing     time.Duration // 10 s: both have, or the connection was reset
	UDP            time.Duration // 30 s
	UDPStream      time.Duration // 180 s: both ends have sent, and the opener again
	ICMP           time.Duration // 10 s
	Other          time.Duration // 60 s: other protocols, and frames without IP
	Fragment       time.Duration // 5 s
}

// DefaultTimeouts gives what a zero in Timeouts stands for.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		TCPSetup:       30 * time.Second,
		TCPEstablished: 30 * time.Minute,
		TCPHalfClosed:  4 * time.Minute,
		TCPClosing:     10 * time.Second,
		UDP:            30 * time.Second,
		UDPStream:      180 * time.Second,
		ICMP:           10 * time.Second,
		Other:          60 * time.Second,
		Fragment:       5 * time.Second,
	}
}

// orDefault gives t with the defaults where it is zero.
func (t Timeouts) orDefault() Timeouts {
	d := DefaultTimeouts()
	for _, f := range []struct{ to, from *time.Duration }{
		{&t.TCPSetup, &d.TCPSetup}, {&t.TCPEstablished, &d.TCPEstablished},
		{&t.TCPHalfClosed, &d.TCPHalfClosed}, {&t.TCPClosing, &d.TCPClosing},
		{&t.UDP, &d.UDP}, {&t.UDPStream, &d.UDPStream},
		{&t.ICMP, &d.ICMP}, {&t.Other, &d.Other}, {&t.Fragment, &d.Fragment},
	} {
		if *f.to <= 0 {
			*f.to = *f.from
		}
	}
	return t
}

// class is a sort of flows with timeouts of its own.
type class uint8

const (
	classTCP class = iota
	classUDP
	classICMP
	classOther
	classFragment
	classes
)

func (k *Key) class() class {
	switch k.Kind {
	case KindFragment:
		return classFragment
	case KindEchoRequest, KindEchoReply, KindICMP:
		return classICMP
	case KindPorts:
		switch k.Proto {
		case packet.ProtoTCP:
			return classTCP
		case packet.ProtoUDP:
			return classUDP
		}
	}
	return classOther
}

// limits are the timeouts of one class by State, in nanoseconds.
type limits [states]int64

func (t Timeouts) limits() (l [classes]limits) {
	l[classTCP] = limits{
		StateNew: int64(t.TCPSetup), StateReplied: int64(t.TCPSetup), StateEstablished: int64(t.TCPEstablished),
		StateHalfClosed: int64(t.TCPHalfClosed), StateClosing: int64(t.TCPClosing),
	}
	for i, d := range map[class]time.Duration{classUDP: t.UDP, classICMP: t.ICMP, classOther: t.Other, classFragment: t.Fragment} {
		l[i] = limits{StateNew: int64(d), StateReplied: int64(d), StateEstablished: int64(d)}
	}
	l[classUDP][StateEstablished] = int64(t.UDPStream)
	return l
}
