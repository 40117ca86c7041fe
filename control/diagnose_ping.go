package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane"
)

// maxPingTimeout bounds how long one echo is waited for.
const maxPingTimeout = dataplane.MaxPingTimeout

func (p *parser) timeout(milliseconds int) time.Duration {
	d := time.Duration(milliseconds) * time.Millisecond
	if milliseconds < 0 || d > maxPingTimeout {
		p.fail("a timeout of %d ms is out of range: use 1 to %d", milliseconds, maxPingTimeout/time.Millisecond)
	}
	return d
}

// Ping asks in the name of a station of this machine.
func (c *Controller) Ping(ctx context.Context, in v1.PingRequest) (v1.PingReply, error) {
	var p parser
	q := dataplane.PingQuery{
		VSID: p.vsid(in.VSID), SrcCA: p.addr("source", in.SrcCA, false), DstCA: p.addr("destination", in.DstCA, false),
		Seq: in.Seq, Size: in.Size, DontFragment: in.DF, Guest: in.Guest, Timeout: p.timeout(in.Timeout),
	}
	if err := p.err(); err != nil {
		return v1.PingReply{}, err
	}
	r, err := c.o.Sight.Ping(ctx, q)
	if err != nil {
		return v1.PingReply{}, kindly(err)
	}
	out := v1.PingReply{
		Seq: r.Seq, Outcome: string(r.Outcome), From: said(r.From), By: string(r.By), RTT: int64(r.RTT), Bytes: r.Bytes, TTL: int(r.TTL), MTU: r.MTU,
		Port: r.At, Back: r.Back, Message: pingMessage(r, q.DstCA.Is6()),
	}
	if r.Reason != 0 {
		out.Reason = r.Reason.String()
	}
	return out, nil
}

// pingMessage says what is wrong with what became of an echo.
func pingMessage(r dataplane.PingResult, v6 bool) string {
	switch r.Outcome {
	case dataplane.PingError:
		return errorWords(r, v6)
	case dataplane.PingLost:
		return "no answer in time"
	case dataplane.PingDropped:
		what, where := "the request", "this machine"
		if r.Back {
			what = "the answer"
		}
		if r.At != "" {
			where = "port " + r.At
		}
		words := fmt.Sprintf("%s dropped %s: %s (%s)", where, what, r.Reason, strings.TrimSuffix(r.Reason.Meaning(), "."))
		if r.MTU > 0 {
			words += fmt.Sprintf("; %d bytes may pass", r.MTU)
		}
		return words
	}
	return ""
}

// errorWords says an ICMP error (RFC 792, RFC 1812 section 5.2.7, RFC 4443
// section 3).
func errorWords(r dataplane.PingResult, v6 bool) string {
	if r.MTU > 0 {
		return fmt.Sprintf("the packet is too big: %d bytes may pass", r.MTU)
	}
	type code struct{ typ, code uint8 }
	known := map[code]string{
		{3, 0}: "network unreachable", {3, 1}: "host unreachable", {3, 2}: "protocol unreachable", {3, 3}: "port unreachable",
		{3, 4}: "the packet is too big", {3, 9}: "administratively prohibited", {3, 10}: "administratively prohibited", {3, 13}: "administratively prohibited",
		{11, 0}: "time to live exceeded",
	}
	if v6 {
		known = map[code]string{
			{1, 0}: "no route", {1, 1}: "administratively prohibited", {1, 3}: "address unreachable", {1, 4}: "port unreachable",
			{2, 0}: "the packet is too big", {3, 0}: "hop limit exceeded",
		}
	}
	if words, ok := known[code{r.ICMPType, r.ICMPCode}]; ok {
		return words
	}
	return fmt.Sprintf("ICMP error of type %d, code %d", r.ICMPType, r.ICMPCode)
}

// ProviderPing asks from a provider address of this machine.
func (c *Controller) ProviderPing(ctx context.Context, in v1.ProviderPingRequest) (v1.PingReply, error) {
	var p parser
	to, from := p.addr("provider address", in.To, false), p.addr("provider address", in.From, true)
	s := compartments.PingSpec{To: to, From: from, Count: 1, Size: in.Size, DontFragment: in.DF, Timeout: p.timeout(in.Timeout)}
	if s.Size == 0 {
		s.Size = dataplane.DefaultPingSize
	}
	if err := p.err(); err != nil {
		return v1.PingReply{}, err
	}
	if !s.From.IsValid() {
		var ok bool
		if s.From, ok = newReach(c).source(to); !ok {
			return v1.PingReply{}, invalidf("this machine has no provider address of the family of %s that works: add one with «gatewayctl provider-address add»", to)
		}
	}
	out := v1.PingReply{Outcome: v1.PingLost, Message: "no answer in time"}
	_, err := c.o.Compartments.Ping(ctx, s, func(r compartments.PingReply) { out = providerReply(r, s) })
	if err != nil {
		return v1.PingReply{}, invalidf("%v", err)
	}
	return out, ctx.Err()
}

func providerReply(r compartments.PingReply, s compartments.PingSpec) v1.PingReply {
	out := v1.PingReply{Outcome: v1.PingReplied, From: said(r.From), RTT: int64(r.RTT), TTL: r.TTL, MTU: r.MTU}
	switch {
	case r.Err == nil:
		out.Bytes = s.Size + icmpHeader
	case errors.Is(r.Err, compartments.ErrNoReply):
		out.Outcome, out.Message = v1.PingLost, "no answer in time"
	default:
		out.Outcome, out.Message = v1.PingError, r.Err.Error()
		if r.MTU > 0 {
			out.Message = fmt.Sprintf("the packet is too big: %d bytes may pass", r.MTU)
		}
	}
	return out
}

// icmpHeader is the length of an echo's header, which its data stands behind.
const icmpHeader = 8
