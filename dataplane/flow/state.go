package flow

import "github.com/hnvgate/hnvgate/dataplane/packet"

// State is how far a flow has come; doc.go has the diagram.
type State uint8

// The states.
const (
	StateNew         State = iota // only the opener has sent
	StateReplied                  // the other end has answered; TCP: the handshake is not done
	StateEstablished              // the opener has gone on after the answer; TCP: the handshake is done
	StateHalfClosed               // TCP: one end has sent FIN
	StateClosing                  // TCP: both ends have, or one of them RST
	states
)

// String gives the state as it stands in listings: "half-closed".
func (s State) String() string {
	if s < states {
		return [states]string{"new", "replied", "established", "half-closed", "closing"}[s]
	}
	return "unknown"
}

// word is what is known of a flow, in one word that changes by compare and
// swap. The State in the lowest bits follows from the others.
type word uint32

const (
	stateBits word = 7

	dead word = 1 << (iota + 2) // removed from the table, or about to be

	replied     // the reply half has sent
	openerWent  // the opener has sent after that; TCP: with ACK
	replyWent   // TCP: the reply half has sent with ACK
	finOpener   // TCP: FIN from the opener
	finReply    // TCP: FIN from the reply half
	reset       // TCP: RST, believed
	openerAfter // TCP: the opener has sent data or ACK after the RST
	replyAfter  // TCP: the reply half has
)

func (w word) state() State { return State(w & stateBits) }

// settle makes the State follow from the other bits.
func (w word) settle() word {
	s := StateNew
	switch {
	case w&replied == 0:
	case w&reset != 0, w&finOpener != 0 && w&finReply != 0:
		s = StateClosing
	case w&openerWent == 0 || w&replyWent == 0:
		s = StateReplied
	case w&(finOpener|finReply) != 0:
		s = StateHalfClosed
	default:
		s = StateEstablished
	}
	return w&^stateBits | word(s)
}

// next gives what is known of a flow after one more packet of its opener, or of
// its reply half.
func (w word) next(tcp, reply bool, flags uint8) word {
	if !tcp {
		switch {
		case reply:
			w |= replied | replyWent
		case w&replied != 0:
			w |= openerWent
		}
		return w.settle()
	}
	return w.nextTCP(reply, flags).settle()
}

// opens tells a SYN that begins a connection.
func opens(flags uint8) bool {
	return flags&(packet.TCPSyn|packet.TCPAck|packet.TCPRst) == packet.TCPSyn
}

// nextTCP follows RFC 9293 section 3.3.2 as far as it can be seen without
// sequence numbers, which a packet that nobody checks could set at will anyway.
func (w word) nextTCP(reply bool, flags uint8) word {
	ack := flags&packet.TCPAck != 0
	switch {
	case flags&packet.TCPRst != 0:
		// Refusing a connection is a reply, too. What nobody has answered is not
		// there to be reset.
		if reply {
			w |= replied
		}
		if w&replied != 0 {
			w = w&^(openerAfter|replyAfter) | reset
		}
		return w
	case opens(flags) && w.state() == StateClosing:
		// A new connection between the same ends (RFC 9293 section 3.6.1). That
		// of the other end is not ours to let in: see Reopens.
		if reply {
			return w
		}
		return w & dead
	}
	if reply {
		w |= replied
		if ack {
			w |= replyWent
		}
		if flags&packet.TCPFin != 0 {
			w |= finReply
		}
	} else {
		// An ACK before there was anything to acknowledge finishes no handshake.
		if ack && w&replied != 0 {
			w |= openerWent
		}
		if flags&packet.TCPFin != 0 {
			w |= finOpener
		}
	}
	if w&reset != 0 && ack && flags&packet.TCPSyn == 0 {
		if reply {
			w |= replyAfter
		} else {
			w |= openerAfter
		}
		// Who has sent or received a RST answers with RST from then on (RFC 9293
		// section 3.10.7.1). Both going on as before: it was a forgery.
		if w&openerAfter != 0 && w&replyAfter != 0 {
			w &^= reset | openerAfter | replyAfter
		}
	}
	return w
}
